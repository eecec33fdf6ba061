//! What kind of model a file holds, and what to do with one that is no ML Program.

use super::proto::Model;
use super::proto::model::Type;

/// What a model is, with its article.
pub(super) fn kind(model: &Model) -> &'static str {
    match &model.r#type {
        None => "a model without contents",
        Some(Type::MlProgram(_)) => "an ML Program",
        Some(Type::PipelineClassifier(_) | Type::PipelineRegressor(_) | Type::Pipeline(_)) => {
            "a pipeline"
        }
        Some(Type::GlmRegressor(_)) => "a generalised linear regressor",
        Some(Type::SupportVectorRegressor(_)) => "a support vector regressor",
        Some(Type::TreeEnsembleRegressor(_) | Type::TreeEnsembleClassifier(_)) => "a tree ensemble",
        Some(
            Type::NeuralNetworkRegressor(_)
            | Type::NeuralNetworkClassifier(_)
            | Type::NeuralNetwork(_),
        ) => "a neural network of the older kind",
        Some(Type::BayesianProbitRegressor(_)) => "a Bayesian probit regressor",
        Some(Type::GlmClassifier(_)) => "a generalised linear classifier",
        Some(Type::SupportVectorClassifier(_)) => "a support vector classifier",
        Some(Type::KNearestNeighborsClassifier(_)) => "a nearest neighbours classifier",
        Some(Type::ItemSimilarityRecommender(_)) => "an item similarity recommender",
        Some(Type::CustomModel(_)) => "a custom model",
        Some(Type::LinkedModel(_)) => "a link to another model",
        Some(Type::ClassConfidenceThresholding(_)) => "a class confidence thresholding",
        Some(Type::OneHotEncoder(_)) => "a one-hot encoder",
        Some(Type::Imputer(_)) => "an imputer",
        Some(Type::FeatureVectorizer(_)) => "a feature vectoriser",
        Some(Type::DictVectorizer(_)) => "a dictionary vectoriser",
        Some(Type::Scaler(_)) => "a scaler",
        Some(Type::CategoricalMapping(_)) => "a categorical mapping",
        Some(Type::Normalizer(_)) => "a normaliser",
        Some(Type::ArrayFeatureExtractor(_)) => "an array feature extractor",
        Some(Type::NonMaximumSuppression(_)) => "a non-maximum suppression",
        Some(Type::Identity(_)) => "an identity",
        Some(Type::TextClassifier(_)) => "a text classifier",
        Some(Type::WordTagger(_)) => "a word tagger",
        Some(Type::VisionFeaturePrint(_)) => "a vision feature print",
        Some(Type::SoundAnalysisPreprocessing(_)) => "a sound analysis preprocessing",
        Some(Type::Gazetteer(_)) => "a gazetteer",
        Some(Type::WordEmbedding(_)) => "a word embedding",
        Some(Type::AudioFeaturePrint(_)) => "an audio feature print",
        Some(Type::SerializedModel(_)) => "a serialised model",
    }
}

/// The way to something that can be read.
pub(super) fn way_out(kind: &str) -> &'static str {
    match kind {
        "a neural network of the older kind" => {
            "convert the original model again for iOS 15 or later (coremltools: `convert_to=\"mlprogram\"`); if only this file is left, run it on macOS"
        }
        "a pipeline" => {
            "take the models out of it (coremltools: `spec.pipeline.models`) and give those that are ML Programs one by one; the others need their original framework"
        }
        "a tree ensemble" => {
            "trees have no ML Program; run them in the framework they were trained with, or in ONNX Runtime through its converter to ONNX"
        }
        _ => "only ML Programs are read; convert the original model again, for iOS 15 or later",
    }
}
