//! Pickles that attack: every technique that fickling and picklescan document or generate, and those against this reader in particular.
//! All are refused with exit code 4, the opcode, its offset and the name it asks for; no byte of them is executed, by construction.
//!
//! The names come from `scripts/fixtures/hostile_globals.py`; the pickles are put together here, byte by byte.

use std::fs;

use distill_convert::error::Error;
use distill_convert::source::{self, OpenOptions};

use crate::common::{root, run_json};
use crate::torch::{Pickle, zip_of};

/// A checkpoint in the zip layout around a pickle.
fn archive(pickle: &[u8]) -> Vec<u8> {
    zip_of(&[
        ("x/data.pkl".to_owned(), pickle.to_vec()),
        ("x/data/0".to_owned(), vec![0; 8]),
        ("x/version".to_owned(), b"3\n".to_vec()),
    ])
}

/// A checkpoint in the legacy layout around a pickle.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    out.extend(b"\x80\x02M\xe9\x03.");
    out.extend(b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88u.");
    out.extend(pickle);
    out.extend(b"\x80\x02]q\x00X\x01\x00\x00\x000q\x01a.");
    out.extend(2u64.to_le_bytes());
    out.extend([0; 8]);
    out
}

fn open(bytes: &[u8]) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let path = dir.path().join("model.pt");
    fs::write(&path, bytes).unwrap();
    source::open(&path, &OpenOptions::default()).map(|_| ())
}

/// `{"w": tensor, "x": …}` where the dots are `inner`: everything around the attack is sound.
fn around(inner: &[u8]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("w").tensor("0", &[2]).text("x");
    pickle.raw(inner).raw(b"u.");
    pickle.0
}

#[track_caller]
fn refused(bytes: &[u8], parts: &[&str]) -> Error {
    let error = open(bytes).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class().exit_code(), 4, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
    error
}

#[test]
fn the_surroundings_of_the_attacks_are_sound() {
    // Without the attack it is read, up to the entry that is no tensor: what refuses the others is the attack.
    for bytes in [archive(&around(b"N")), legacy(&around(b"N"))] {
        let error = open(&bytes).unwrap_err();
        assert_eq!(error.code(), "bad_state_dict", "{error}");
    }
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("w").tensor("0", &[2]).raw(b"s.");
    open(&archive(&pickle.0)).unwrap();
    open(&legacy(&pickle.0)).unwrap();
}

/// Names of the scanners that are data as long as nobody calls them: defaults of dictionaries.
const PLAIN_TYPES: [&str; 7] = ["bool", "dict", "float", "int", "list", "str", "tuple"];

#[test]
fn every_name_that_the_scanners_know_is_refused() {
    let list = root().join("tests/fixtures/hostile-pickles/globals.txt");
    let list = fs::read_to_string(list).unwrap();
    let mut tried = 0;
    for line in list.lines().filter(|l| !l.starts_with('#')) {
        let (module, name) = line.split_once(' ').unwrap();
        // Called with text by GLOBAL and by STACK_GLOBAL, only named, and instantiated by INST.
        let mut by_stack = Pickle(Vec::new());
        by_stack.text(module).text(name).raw(b"\x93");
        by_stack.text("id").raw(b"\x85R");
        let attacks = [
            (
                [
                    format!("c{module}\n{name}\nX\x02\x00\x00\x00id").as_bytes(),
                    b"\x85R",
                ]
                .concat(),
                "GLOBAL",
            ),
            (format!("c{module}\n{name}\n").into_bytes(), "GLOBAL"),
            (by_stack.0, "STACK_GLOBAL"),
            (
                format!("(X\x02\x00\x00\x00idi{module}\n{name}\n").into_bytes(),
                "INST",
            ),
        ];
        let plain = module == "builtins" && PLAIN_TYPES.contains(&name);
        for (i, (attack, opcode)) in attacks.into_iter().enumerate() {
            let pickle = around(&attack);
            if plain && i == 1 {
                for bytes in [archive(&pickle), legacy(&pickle)] {
                    assert_eq!(open(&bytes).unwrap_err().code(), "bad_state_dict");
                }
                continue;
            }
            let opcode = if plain && i < 3 { "REDUCE" } else { opcode };
            for bytes in [archive(&pickle), legacy(&pickle)] {
                let name = format!("`{module}.{name}`");
                let error = refused(&bytes, &[&format!("opcode `{opcode}`"), &name]);
                assert_eq!(error.code(), "unsafe_pickle");
                assert!(error.place.offset.is_some());
            }
            tried += 2;
        }
    }
    assert!(tried > 8 * 200, "only {tried}");
}

/// Techniques that need more than one name: what a row is, its opcodes, and what the message must say. The names of the rows say where a
/// technique is documented or generated: in fickling's analyses, injections and tests, in picklescan's tests, or in neither.
const TECHNIQUES: &[(&str, &[u8], &[&str])] = &[
    // Ways to reach code.
    ("fickling: exec injected before the model", b"c__builtin__\nexec\nX\x05\x00\x00\x00print\x85R0N", &["`GLOBAL`", "`__builtin__.exec`"]),
    ("fickling: eval injected as in `inject_payload`", b"c__builtin__\neval\n(X\x01\x00\x00\x001tR", &["`__builtin__.eval`"]),
    ("fickling: call on the unpickled object", b"\x8c\x08builtins\x8c\x04exec\x93p1\n0Ng1\nN\x85R", &["`STACK_GLOBAL`", "`builtins.exec`"]),
    ("picklescan: operator.attrgetter reaches os.system", b"coperator\nattrgetter\nX\x06\x00\x00\x00system\x85Rc__builtin__\n__import__\nX\x02\x00\x00\x00os\x85R\x85R", &["`operator.attrgetter`"]),
    ("picklescan: functools.partial of os.system", b"cfunctools\npartial\ncos\nsystem\nX\x02\x00\x00\x00id\x86R)R", &["`functools.partial`"]),
    ("picklescan: pkgutil.resolve_name", b"cpkgutil\nresolve_name\nX\x09\x00\x00\x00os:system\x85R", &["`pkgutil.resolve_name`"]),
    ("picklescan: dotted attribute by protocol 4", b"\x8c\x02os\x8c\x0bpath.os.system\x93", &["opcode"]),
    ("picklescan: name of a submodule", b"casyncio.unix_events\n_UnixSubprocessTransport._start\n(N)R", &["`asyncio.unix_events._UnixSubprocessTransport._start`"]),
    ("picklescan: memo indirection of a STACK_GLOBAL", b"\x8c\x02osq\x80\x8c\x06systemq\x81h\x80h\x81\x93", &["`STACK_GLOBAL`", "`os.system`"]),
    ("picklescan: text that is no text for STACK_GLOBAL", b"K\x01K\x02\x93", &["`STACK_GLOBAL`", "two texts"]),
    ("picklescan: nested pickle through torch.storage._load_from_bytes", b"ctorch.storage\n_load_from_bytes\nC\x04\x80\x02N.\x85R", &["`torch.storage._load_from_bytes`"]),
    ("nested pickle through pickle.loads", b"c_pickle\nloads\nC\x04\x80\x02N.\x85R", &["`_pickle.loads`"]),
    ("torch.load of another file", b"ctorch.serialization\nload\nX\x01\x00\x00\x00x\x85R", &["`torch.serialization.load`"]),
    ("numpy object array", b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R", &["`numpy.core.multiarray._reconstruct`"]),
    ("a module of the attacker's own", b"cmodel\nNet\n)R", &["`model.Net`"]),
    ("code by REDUCE of text", b"X\x09\x00\x00\x00os.systemX\x02\x00\x00\x00id\x85R", &["`REDUCE`", "applies `text`"]),
    ("REDUCE of a list", b"]X\x02\x00\x00\x00id\x85R", &["`REDUCE`", "applies `a list`"]),
    ("REDUCE of what a REDUCE gave", b"ccollections\nOrderedDict\n)R)R", &["`REDUCE`", "applies `a dictionary`"]),
    ("REDUCE with arguments that are no tuple", b"ccollections\nOrderedDict\n]R", &["`collections.OrderedDict`", "a tuple of arguments"]),
    ("a type is called as if it were a function", b"ctorch\nFloatStorage\n)R", &["`torch.FloatStorage`", "it only names a type"]),
    ("a tensor type is instantiated", b"ctorch\nTensor\n)R", &["it only names a type"]),
    // What fickling's tests of bypasses put together.
    ("fickling: pty.spawn, and attributes on what it gives", b"\x8c\x03pty\x94\x8c\x05spawn\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94\x8c\x06gottem\x94b", &["`STACK_GLOBAL`", "`pty.spawn`"]),
    ("fickling: pty.spawn by OBJ", b"(cpty\nspawn\nS'id'\no", &["`GLOBAL`", "`pty.spawn`"]),
    ("fickling: code objects by marshal and types.FunctionType", b"\x8c\x07marshal\x8c\x05loads\x93\x94C\x01c\x85R\x94\x8c\x05types\x8c\x0cFunctionType\x93", &["`STACK_GLOBAL`", "`marshal.loads`"]),
    ("fickling: types.FunctionType alone", b"\x8c\x05types\x94\x8c\x0cFunctionType\x94\x93\x94", &["`types.FunctionType`"]),
    ("fickling: runpy.run_path", b"\x8c\x05runpy\x94\x8c\x08run_path\x94\x93\x8c\x06/tmp/x\x85R", &["`runpy.run_path`"]),
    ("fickling: cProfile.run", b"\x8c\x08cProfile\x94\x8c\x03run\x94\x93\x8c\x01x\x85R", &["`cProfile.run`"]),
    ("fickling: getattr of a library that ctypes opens", b"\x8c\x08builtins\x94\x8c\x07getattr\x94\x93\x94\x8c\x06ctypes\x94\x8c\x04CDLL\x94\x93", &["`builtins.getattr`"]),
    ("fickling: ctypes.CDLL", b"cctypes\nCDLL\nX\x04\x00\x00\x00libc\x85R", &["`ctypes.CDLL`"]),
    ("fickling: pydoc.locate of a function by its path", b"cpydoc\nlocate\nS'ctypes.windll.kernel32.WinExec'\n\x85R", &["`GLOBAL`", "`pydoc.locate`"]),
    ("fickling: importlib.import_module", b"\x8c\x09importlib\x94\x8c\x0dimport_module\x94\x93\x8c\x02os\x85R", &["`importlib.import_module`"]),
    ("fickling: code.InteractiveInterpreter and its runsource", b"\x8c\x04code\x94\x8c\x16InteractiveInterpreter\x94\x93)R", &["`code.InteractiveInterpreter`"]),
    ("fickling: multiprocessing.util.spawnv_passfds", b"\x8c\x14multiprocessing.util\x94\x8c\x0espawnv_passfds\x94\x93C\x07/bin/sh]\x87R", &["`multiprocessing.util.spawnv_passfds`"]),
    ("fickling: a class of the injection's own around the model", b"cfickling.pytorch\nBaseInjection\n)\x81}b", &["`GLOBAL`", "`fickling.pytorch.BaseInjection`"]),
    ("fickling: a magic number is put in by INT and POP", b"I1337\n0N", &["`INT`"]),
    // What picklescan's tests are about.
    ("picklescan: the sour pickles' chain of globals, compile, eval and apply", b"c__builtin__\nglobals\n(tRp100\n0c__builtin__\ncompile\n(S'x'\nS''\nS'exec'\ntRp101\n0", &["`GLOBAL`", "`__builtin__.globals`"]),
    ("picklescan: exec by INST after text of protocol 0", b"(S'raise RuntimeError(\"x\")'\ni__builtin__\nexec\n", &["`STRING`", "`INST` at byte", "`__builtin__.exec`"]),
    ("picklescan: names hidden in the memo of protocol 0, with a harmless one on top", b"Vos\np2\n0Vsystem\np3\n0Vtorch\np0\n0VLongStorage\np1\n0g2\ng3\n\x93(Vcat\ntR", &["`UNICODE`", "`STACK_GLOBAL` at byte", "`os.system`"]),
    ("picklescan: eval by protocol 0", b"c__builtin__\neval\np0\n(Vprint('456')\np1\ntp2\nRp3\n", &["`GLOBAL`", "`__builtin__.eval`"]),
    ("picklescan: eval by protocol 3", b"cbuiltins\neval\nq\x60X\x05\x00\x00\x00printq\x61\x85q\x62Rq\x63", &["`GLOBAL`", "`builtins.eval`"]),
    ("picklescan: eval by protocol 4", b"\x8c\x08builtins\x94\x8c\x04eval\x94\x93\x94\x8c\x05print\x94\x85\x94R\x94", &["`STACK_GLOBAL`", "`builtins.eval`"]),
    ("picklescan: os.system under its name on this system", b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02ls\x94\x85\x94R\x94", &["`STACK_GLOBAL`", "`posix.system`"]),
    ("picklescan: a connection by http under its old name", b"chttplib\nHTTPSConnection\n(Vgithub.com\ntR", &["`httplib.HTTPSConnection`"]),
    ("picklescan: a request by requests", b"crequests.api\nget\nX\x01\x00\x00\x00x\x85R", &["`requests.api.get`"]),
    ("picklescan: a session by aiohttp", b"caiohttp.client\nClientSession\n)R", &["`aiohttp.client.ClientSession`"]),
    ("picklescan: a connection by socket", b"csocket\ncreate_connection\nX\x01\x00\x00\x00xKP\x86\x85R", &["`socket.create_connection`"]),
    ("picklescan: urllib.request.urlopen", b"curllib.request\nurlopen\nX\x01\x00\x00\x00x\x85R", &["`urllib.request.urlopen`"]),
    ("picklescan: subprocess.run", b"csubprocess\nrun\n]X\x02\x00\x00\x00lsa\x85R", &["`subprocess.run`"]),
    ("picklescan: sys.exit", b"csys\nexit\nK\x00\x85R", &["`sys.exit`"]),
    ("picklescan: sys.modules is overridden, so that a harmless name means another module", b"csys\nmodules\nX\x05\x00\x00\x00torchcos\nsystem\ns", &["`sys.modules`"]),
    ("picklescan: pickle.loads under its name in Python 2", b"ccPickle\nloads\nC\x01.\x85R", &["`cPickle.loads`"]),
    ("picklescan: pickle.loads under its name in C", b"\x8c\x07_pickle\x94\x8c\x05loads\x94\x93C\x08I12345\n.\x85R", &["`_pickle.loads`"]),
    ("picklescan: runpy._run_code", b"crunpy\n_run_code\nX\x01\x00\x00\x00x\x85R", &["`runpy._run_code`"]),
    ("picklescan: a method by its path in protocol 4", b"\x8c\x03bdb\x94\x8c\x07Bdb.run\x94\x93\x94", &["`STACK_GLOBAL`", "`bdb.Bdb.run`"]),
    ("picklescan: a method by getattr in protocol 2", b"c__builtin__\ngetattr\ncbdb\nBdb\nX\x03\x00\x00\x00run\x86R", &["`__builtin__.getattr`"]),
    ("picklescan: pip.main", b"cpip\nmain\n]\x85R", &["`pip.main`"]),
    ("picklescan: ensurepip._run_pip", b"censurepip\n_run_pip\n]\x85R", &["`ensurepip._run_pip`"]),
    ("picklescan: PyTorch's own compiler", b"ctorch._inductor.codecache\ncompile_file\n(tR", &["`torch._inductor.codecache.compile_file`"]),
    ("picklescan: pydoc.pipepager", b"cpydoc\npipepager\nX\x00\x00\x00\x00X\x02\x00\x00\x00id\x86R", &["`pydoc.pipepager`"]),
    ("picklescan: functools.partial of torch.load", b"cfunctools\npartial\nctorch\nload\n\x85R", &["`functools.partial`"]),
    ("picklescan: venv.create", b"cvenv\ncreate\nX\x01\x00\x00\x00x\x85R", &["`venv.create`"]),
    ("picklescan: timeit.timeit", b"ctimeit\ntimeit\nX\x01\x00\x00\x00x\x85R", &["`timeit.timeit`"]),
    ("picklescan: NumPy runs a string in its tests", b"cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x00x}\x86R", &["`numpy.testing._private.utils.runstring`"]),
    ("picklescan: NumPy evaluates Fortran", b"cnumpy.f2py.crackfortran\ngetlincoef\nX\x01\x00\x00\x00x]\x86R", &["`numpy.f2py.crackfortran.getlincoef`"]),
    ("picklescan: operator.methodcaller on what pydoc.locate finds", b"coperator\nmethodcaller\nX\x06\x00\x00\x00systemX\x02\x00\x00\x00id\x86R", &["`operator.methodcaller`"]),
    ("picklescan: a file by io.FileIO", b"c_io\nFileIO\nX\x01\x00\x00\x00x\x85R", &["`_io.FileIO`"]),
    ("picklescan: a file by logging.FileHandler", b"clogging\nFileHandler\nX\x01\x00\x00\x00x\x85R", &["`logging.FileHandler`"]),
    ("picklescan: a file by distutils", b"cdistutils.file_util\nwrite_file\nX\x01\x00\x00\x00x]\x86R", &["`distutils.file_util.write_file`"]),
    ("picklescan: a function rebuilt by cloudpickle", b"ccloudpickle.cloudpickle\n_make_function\n(tR", &["`cloudpickle.cloudpickle._make_function`"]),
    ("picklescan: a missing memo entry stops a scanner before the code", b"h\x62h\x63\x93cos\nsystem\n", &["`BINGET`", "before it is written"]),
    ("picklescan: text that is not UTF-8 as a name stops a scanner", b"cmod\n\xf8\n", &["`GLOBAL`", "mod."]),
    // Objects.
    ("INST of a listed name", b"(icollections\nOrderedDict\n", &["`INST`", "`collections.OrderedDict`"]),
    ("OBJ", b"(ctorch\nTensor\no", &["`OBJ`", "`torch.Tensor`"]),
    ("NEWOBJ", b"ctorch\nTensor\n)\x81", &["`NEWOBJ`", "`torch.Tensor`"]),
    ("NEWOBJ_EX", b"ctorch\nTensor\n)}\x92", &["`NEWOBJ_EX`", "`torch.Tensor`"]),
    ("BUILD of a plain dictionary", b"}}b", &["`BUILD`", "a dictionary of a dictionary"]),
    ("BUILD of a list", b"]}b", &["`BUILD`", "a list"]),
    ("BUILD of a type, which would set its attributes", b"ctorch\nTensor\n}b", &["`BUILD`", "`__setstate__`", "torch.Tensor"]),
    ("BUILD with slots", b"ccollections\nOrderedDict\n)R}}\x86b", &["`BUILD`", "a tuple"]),
    ("attributes smuggled by a tensor's hooks", b"ctorch._utils\n_rebuild_parameter\nN\x88}X\x01\x00\x00\x00kNs\x87R", &["`REDUCE`", "no hooks"]),
    // What is listed for training scripts: dictionaries with defaults, arguments, NumPy's scalars.
    ("a default that is a function", b"ccollections\ndefaultdict\ncos\nsystem\n\x85R", &["`GLOBAL`", "`os.system`"]),
    ("a default that is a listed function", b"ccollections\ndefaultdict\nc_codecs\nencode\n\x85R", &["`REDUCE`", "`collections.defaultdict`", "the name of a plain type"]),
    ("a default that is a value", b"ccollections\ndefaultdict\n]\x85R", &["`collections.defaultdict`", "to a list"]),
    ("a type of defaults is called", b"c__builtin__\nlist\n]\x85R", &["`__builtin__.list`", "it only names a type"]),
    ("a type of defaults is instantiated", b"c__builtin__\ndict\n)\x81", &["`NEWOBJ`", "`__builtin__.dict`"]),
    ("attributes of a dictionary with a default", b"ccollections\ndefaultdict\n)R}b", &["`BUILD`", "a dictionary of a dictionary"]),
    ("a namespace is called", b"cargparse\nNamespace\n)R", &["`REDUCE`", "`argparse.Namespace`", "it only names a type"]),
    ("a namespace with arguments", b"cargparse\nNamespace\nK\x01\x85\x81", &["`NEWOBJ`", "`argparse.Namespace`"]),
    ("a namespace by INST", b"(iargparse\nNamespace\n", &["`INST`", "`argparse.Namespace`"]),
    ("a namespace by OBJ", b"(cargparse\nNamespace\no", &["`OBJ`", "`argparse.Namespace`"]),
    ("a namespace by NEWOBJ_EX", b"cargparse\nNamespace\n)}\x92", &["`NEWOBJ_EX`", "`argparse.Namespace`"]),
    ("a namespace is filled twice", b"cargparse\nNamespace\n)\x81}b}b", &["`BUILD`", "a dictionary of a namespace"]),
    ("a namespace with slots", b"cargparse\nNamespace\n)\x81N}\x86b", &["`BUILD`", "a tuple of a namespace"]),
    ("a namespace whose class is another", b"cargparse\nNamespace\n)\x81}X\x09\x00\x00\x00__class__cos\n_wrap_close\nsb", &["`GLOBAL`", "`os._wrap_close`"]),
    ("a namespace as a dictionary", b"cargparse\nNamespace\n)\x81NNs", &["`SETITEM`", "a namespace"]),
    ("a NumPy scalar of an object, whose bytes are a pickle", b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87RC\x04\x80\x02N.\x86R", &["`REDUCE`", "`numpy.dtype`", "the code of a number's type"]),
    ("a NumPy type made of a record", b"cnumpy\ndtype\n](X\x01\x00\x00\x00aX\x02\x00\x00\x00f4\x86e\x89\x88\x87R", &["`numpy.dtype`", "to a list"]),
    ("a NumPy type with fields of its own", b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", &["`BUILD`", "a tuple of a NumPy type"]),
    ("a NumPy type that is built twice", b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x60bh\x60b", &["`BUILD`", "a tuple of a NumPy type"]),
    ("a NumPy scalar without a byte order", b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87RC\x04abcd\x86R", &["`numpy.core.multiarray.scalar`", "whose byte order is known"]),
    ("a NumPy scalar of too many bytes", b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbC\x05abcde\x86R", &["`numpy.core.multiarray.scalar`", "the bytes of one number"]),
    ("a NumPy scalar whose type is no type", b"cnumpy.core.multiarray\nscalar\nX\x02\x00\x00\x00f4C\x04abcd\x86R", &["`numpy.core.multiarray.scalar`", "to text, bytes"]),
    ("a NumPy array", b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R", &["`numpy._core.multiarray._reconstruct`"]),
    // Names behind numbers and outside the file.
    ("EXT1", b"\x82\x07", &["`EXT1`", "`extension 7`"]),
    ("EXT2", b"\x83\x07\x01", &["`EXT2`", "`extension 263`"]),
    ("EXT4", b"\x84\x07\x00\x00\x00", &["`EXT4`", "`extension 7`"]),
    ("PERSID, the text form", b"Pos.system\n", &["`PERSID`", "`os.system`"]),
    ("a persistent id of code, as old PyTorch wrote modules", b"(X\x06\x00\x00\x00modulectorch\nTensor\nX\x04\x00\x00\x00a.pyX\x01\x00\x00\x00xtQ", &["`BINPERSID`", "`module`"]),
    ("a persistent id that is text", b"X\x01\x00\x00\x000Q", &["`BINPERSID`", "text"]),
    ("a storage of a type that is no storage", b"(X\x07\x00\x00\x00storagectorch\nSize\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ", &["`BINPERSID`"]),
    ("a storage of a negative size", b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ", &["`BINPERSID`", "-1 elements"]),
    ("out-of-band buffers", b"\x97", &["`NEXT_BUFFER`"]),
    ("read-only buffers", b"N\x98", &["`READONLY_BUFFER`"]),
    ("a byte array of any length", b"\x96\xff\xff\xff\xff\xff\xff\xff\xff", &["`BYTEARRAY8`"]),
    // Views.
    ("a view beyond its storage", b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x01K\x02\x85K\x01\x85\x89}tR", &["`REDUCE`", "within its storage"]),
    ("a view with a negative stride", b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x01K\x02\x85J\xff\xff\xff\xff\x85\x89}tR", &["not negative"]),
    ("a shape whose product overflows", b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86K\x00K\x00\x86\x89}tR", &["within its storage"]),
    ("a view of another element type, longer than the storage", b"ctorch._utils\n_rebuild_tensor_v3\n((X\x07\x00\x00\x00storagectorch.storage\nUntypedStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQK\x00K\x03\x85K\x01\x85\x89}ctorch\nfloat32\ntR", &["within its storage"]),
    // The machine itself.
    ("opcodes of protocol 0", b"I1\n", &["`INT`"]),
    ("a string that Python would evaluate", b"S'x'\n", &["`STRING`"]),
    ("an unknown opcode", b"\xff", &["`0xff`"]),
    ("a zero byte", b"\x00", &["`0x00`"]),
    ("POP hides what was built", b"N0N", &["`POP`"]),
    ("POP_MARK", b"(N1N", &["`POP_MARK`"]),
    ("DUP", b"N2", &["`DUP`"]),
    ("a second PROTO", b"\x80\x02N", &["`PROTO`"]),
    ("a PROTO of another version", b"\x80\xffN", &["`PROTO`"]),
    ("memo: read before written", b"h\x63", &["`BINGET`", "99", "before it is written"]),
    ("memo: read of an absurd index", b"j\xff\xff\xff\xff", &["`LONG_BINGET`", "4294967295"]),
    ("memo: one entry written twice", b"]q\x63Nq\x63", &["`BINPUT`", "99", "written twice"]),
    ("memo: MEMOIZE over an entry", b"]q\x01]\x94", &["`MEMOIZE`", "written twice"]),
    ("memo: nothing to remember", b"(q\x05t", &["`BINPUT`", "a value"]),
    ("stack: a tuple without a mark's worth", b"(\x87", &["`TUPLE3`"]),
    ("stack: values below a mark are out of reach", b"(\x85", &["`TUPLE1`"]),
    ("stack: APPEND to a tuple", b")Na", &["`APPEND`", "a list", "a tuple"]),
    ("stack: SETITEM of a list", b"]NNs", &["`SETITEM`", "a dictionary", "a list"]),
    ("stack: SETITEMS with half a pair", b"}(K\x01u", &["`SETITEMS`"]),
    ("stack: ADDITEMS to a list", b"](K\x01\x90", &["`ADDITEMS`", "a set"]),
    ("keys: a list", b"}]Ns", &["`SETITEM`", "a list cannot be a key"]),
    ("keys: a dictionary", b"}}Ns", &["a dictionary cannot be a key"]),
    ("keys: a list in a set", b"\x8f(]\x90", &["a list cannot be a key"]),
    ("keys: one twice, so that two readers differ", b"}(K\x01NK\x01Nu", &["key `1` stands twice"]),
    ("keys: True and 1 are one", b"}(K\x01N\x88Nu", &["key `1` stands twice"]),
    ("lengths: text longer than the file", b"X\xff\xff\xff\xffab", &["ends within opcode `BINUNICODE`"]),
    ("lengths: 64-bit text", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab", &["ends within opcode `BINUNICODE8`"]),
    ("lengths: 64-bit bytes", b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab", &["ends within opcode `BINBYTES8`"]),
    ("lengths: an integer of 2 GB", b"\x8b\xff\xff\xff\x7f", &["bytes in one integer"]),
    ("lengths: a frame longer than the file", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", &["`FRAME`"]),
    ("text: not UTF-8", b"X\x02\x00\x00\x00\xff\xfe", &["`BINUNICODE`", "not UTF-8"]),
    ("text: a name without end", &[b'c'; 400], &["a name of more than 256 bytes"]),
    ("text: a name with control characters", b"cos\x1b[31m\nsystem\n", &["`os\\u{1b}[31m.system`"]),
    ("text: a look-alike of a listed name", "ctorch\nFloatStor\u{430}ge\n".as_bytes(), &["`GLOBAL`"]),
    ("fickling: scanner switched off", b"cfickling.hook\nactivate_safe_ml_environment\n)R", &["`fickling.hook.activate_safe_ml_environment`"]),
    ("fickling: exec hidden in an unused variable", b"c__builtin__\nexec\nX\x01\x00\x00\x001\x85Rq\x60N", &["`__builtin__.exec`"]),
];

#[test]
fn every_technique_is_refused_with_its_opcode_and_name() {
    for (name, attack, parts) in TECHNIQUES {
        let pickle = around(attack);
        println!("{name}");
        for bytes in [archive(&pickle), legacy(&pickle)] {
            let error = refused(&bytes, parts);
            assert_eq!(error.code(), "unsafe_pickle", "{name}");
            // The offset is that of an opcode of the attack, or of what follows from it.
            let offset = usize::try_from(error.place.offset.unwrap()).unwrap();
            assert!(offset < bytes.len(), "{name}");
        }
    }
}

#[test]
fn security_md_lists_every_technique() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    for (name, _, parts) in TECHNIQUES {
        let row = format!("| {name} | {} |", parts.join(", "));
        assert!(
            text.lines().any(|line| line == row),
            "SECURITY.md has no row {row}"
        );
    }
}

#[test]
fn expansion_and_nesting_are_bounded() {
    // Billion laughs: forty tuples, each of ten times the one before. As data that nobody reads they cost nothing; as a config they are
    // refused once too much is written out.
    let mut laughs = vec![b'('; 40];
    laughs.push(b')');
    for level in 0..40 {
        laughs.extend([b'q', 100 + level]);
        laughs.extend([b'h', 100 + level].repeat(9));
        laughs.push(b't');
    }
    let error = open(&archive(&around(&laughs))).unwrap_err();
    assert_eq!(error.code(), "bad_state_dict", "{error}");
    let mut pickle = Pickle::new();
    pickle
        .raw(b"}(")
        .text("config")
        .raw(b"}")
        .text("a")
        .raw(&laughs);
    pickle.raw(b"s").text("model").raw(b"}").text("w");
    pickle.tensor("0", &[2]).raw(b"su.");
    let error = open(&archive(&pickle.0)).unwrap_err();
    assert_eq!(error.code(), "bad_config", "{error}");
    assert!(error.to_string().contains("too much text"), "{error}");

    // Tuples in tuples, and open marks.
    for attack in [
        [&b")"[..], &[0x85; 100_000]].concat(),
        [b'('; 100_000].to_vec(),
    ] {
        refused(
            &archive(&around(&attack)),
            &["the pickle holds more", "than 64"],
        );
    }
    // Far more values than any checkpoint has.
    let attack = [&b"("[..], &vec![b'N'; 12_000_000], b"t"].concat();
    refused(
        &archive(&around(&attack)),
        &["more bytes in memory than 536870912 (`--limit pickle-memory=N` changes that)"],
    );
}

/// A memo entry, and how it is read again.
fn put(pickle: &mut Pickle, index: u8) {
    pickle.raw(&[b'q', index]);
}

#[test]
fn small_files_cannot_take_much_memory_or_time() {
    let begin = || {
        let mut pickle = Pickle::new();
        pickle.raw(b"}(").text("w").tensor("0", &[2]).text("x");
        pickle
    };
    let long = "n".repeat(400_000);
    let mut bombs: Vec<(&str, Vec<u8>)> = Vec::new();

    // One text, decoded into bytes again and again.
    let mut pickle = begin();
    pickle.raw(b"(c_codecs\nencode\n");
    put(&mut pickle, 1);
    pickle.text(&long).text("latin1").raw(b"\x86");
    put(&mut pickle, 2);
    pickle.raw(&b"h\x01h\x02R".repeat(50_000)).raw(b"tu.");
    bombs.push(("encode", pickle.0));

    // One list, made into dictionaries, and another into sets.
    let mut pickle = begin();
    pickle.raw(b"(ccollections\nOrderedDict\n");
    put(&mut pickle, 1);
    pickle.raw(b"](");
    for i in 0..30_000 {
        pickle.int(i).raw(b"N\x86");
    }
    pickle.raw(b"e\x85");
    put(&mut pickle, 2);
    pickle.raw(&b"h\x01h\x02R".repeat(50_000)).raw(b"tu.");
    bombs.push(("ordered dictionaries", pickle.0));
    let mut pickle = begin();
    pickle.raw(b"(c__builtin__\nset\n");
    put(&mut pickle, 1);
    pickle
        .raw(b"](")
        .raw(&b"K\x07".repeat(200_000))
        .raw(b"e\x85");
    put(&mut pickle, 2);
    pickle.raw(&b"h\x01h\x02R".repeat(50_000)).raw(b"tu.");
    bombs.push(("sets", pickle.0));

    // One dictionary, and a namespace of it again and again.
    let mut pickle = begin();
    pickle.raw(b"(}(");
    for i in 0..30_000 {
        pickle.int(i).raw(b"N");
    }
    pickle.raw(b"u");
    put(&mut pickle, 1);
    pickle.raw(&b"cargparse\nNamespace\n)\x81h\x01b".repeat(20_000));
    pickle.raw(b"tu.");
    bombs.push(("namespaces", pickle.0));

    // Keys that begin alike, and are long: each is compared with others.
    let mut pickle = begin();
    pickle.text(&long);
    put(&mut pickle, 1);
    pickle.raw(b"}(");
    for i in 0..50_000 {
        pickle.raw(b"h\x01").int(i).raw(b"\x86N");
    }
    pickle.raw(b"u\x86u.");
    bombs.push(("keys", pickle.0));

    for (name, pickle) in bombs {
        let bytes = archive(&pickle);
        assert!(bytes.len() < 1 << 20, "{name}");
        let begin = std::time::Instant::now();
        refused(&bytes, &["more bytes in memory than"]);
        // A second at most when it is optimised and alone; here it is neither.
        assert!(begin.elapsed().as_secs() < 200, "{name}");
    }
}

#[test]
fn small_configs_and_states_cannot_grow() {
    let wrapped = |config: &dyn Fn(&mut Pickle)| {
        let mut pickle = Pickle::new();
        pickle.raw(b"}(").text("config").raw(b"}").text("a");
        config(&mut pickle);
        pickle.raw(b"s").text("model").raw(b"}").text("w");
        pickle.tensor("0", &[2]).raw(b"su.");
        archive(&pickle.0)
    };
    let long = "n".repeat(300_000);
    let texts = wrapped(&|pickle: &mut Pickle| {
        pickle.raw(b"](").text(&long);
        put(pickle, 1);
        pickle.raw(&b"h\x01".repeat(100_000)).raw(b"e");
    });
    // A key of any length, above many values of which the last is no JSON.
    let path = wrapped(&|pickle: &mut Pickle| {
        pickle.raw(b"}").text(&long).raw(b"](");
        pickle
            .raw(&b"N".repeat(400_000))
            .raw(b"G\x7f\xf0\0\0\0\0\0\0es");
    });
    for (bytes, part) in [
        (texts, "too much text"),
        (path, "is a number that is not finite"),
    ] {
        assert!(bytes.len() < 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.pt");
        fs::write(&path, bytes).unwrap();
        let error = source::open(&path, &OpenOptions::default()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), "bad_config", "{text}");
        assert!(text.contains(part) && text.len() < 1000, "{text}");
    }

    // One tensor under many names: as much as the file may be repeated, and no more.
    let state = |names: usize| {
        let mut pickle = Pickle::new();
        pickle.raw(b"}(").text("w").tensor("0", &[100_000]);
        put(&mut pickle, 1);
        for i in 0..names {
            pickle.text(&i.to_string()).raw(b"h\x01");
        }
        pickle.raw(b"u.");
        zip_of(&[
            ("x/data.pkl".to_owned(), pickle.0),
            ("x/data/0".to_owned(), vec![0; 400_000]),
        ])
    };
    open(&state(600)).unwrap();
    let error = refused(
        &state(700),
        &["repeat 280000000 bytes", "--limit repeated-bytes=N"],
    );
    assert_eq!(error.code(), "bad_tensor_range");

    // A name made of wrappers' prefixes.
    let mut pickle = Pickle::new();
    let name = format!("{}w", "module.".repeat(100_000));
    pickle.raw(b"}").text(&name).tensor("0", &[2]).raw(b"s.");
    open(&archive(&pickle.0)).unwrap();
}

#[test]
fn names_of_any_length_are_cut_and_escaped() {
    let long = format!("\u{1b}[31m\n{}", "n".repeat(500_000));
    let mut by_stack = Pickle::new();
    by_stack.text("os").text(&long).raw(b"\x93.");
    let mut persistent = Pickle::new();
    persistent.text(&long).raw(b"\x85Q.");
    let mut twice = Pickle::new();
    twice
        .raw(b"}(")
        .text(&long)
        .raw(b"N")
        .text(&long)
        .raw(b"Nu.");
    let mut object = Pickle::new();
    object.text(&long).raw(b")\x81.");
    let mut no_tensor = Pickle::new();
    no_tensor
        .raw(b"}(")
        .text("w")
        .tensor("0", &[2])
        .text(&long)
        .raw(b"Nu.");
    let mut arguments = Pickle::new();
    arguments
        .raw(b"ctorch\nSize\n(")
        .raw(&[b'N'; 100_000])
        .raw(b"tR.");
    for pickle in [by_stack, persistent, twice, object, no_tensor, arguments] {
        let text = open(&archive(&pickle.0)).unwrap_err().to_string();
        assert!(
            text.len() < 1000 && !text.contains(['\u{1b}', '\n']),
            "{text}"
        );
    }
}

#[test]
fn pickles_without_a_protocol_are_refused_with_what_they_ask_for() {
    let table: [(&[u8], u64, &[&str]); 9] = [
        (b"cos\nsystem\n(S'id'\ntR.", 0, &["`GLOBAL`", "`os.system`"]),
        (
            b"(S'id'\nios\nsystem\n.",
            1,
            &["`STRING`", "`INST` at byte", "`os.system`"],
        ),
        (
            b"c__builtin__\neval\np0\n(Vprint('456')\np1\ntp2\nRp3\n.",
            0,
            &["`__builtin__.eval`"],
        ),
        (
            b"Vos\np2\n0Vsystem\np3\n0g2\ng3\n\x93(Vid\ntR.",
            0,
            &["`UNICODE`", "`os.system`"],
        ),
        (b"(cos\nsystem\nU\x02ido.", 1, &["`GLOBAL`", "`os.system`"]),
        (b"U\x02os(dp0\n.", 5, &["`DICT`"]),
        (b"Pos.system\n.", 0, &["`PERSID`", "`os.system`"]),
        (b"(lp0\nVa\np1\na.", 1, &["`LIST`"]),
        (b"]q\x00(U\x01aU\x01be.", 0, &["no protocol, but byte 0x5d"]),
    ];
    for (pickle, offset, parts) in table {
        let error = refused(pickle, parts);
        assert_eq!(error.code(), "unsafe_pickle", "{error}");
        assert_eq!(error.place.offset, Some(offset), "{error}");
        // The same as the pickle of an archive.
        let error = refused(&archive(pickle), parts);
        assert!(error.place.offset > Some(offset), "{error}");
    }
}

#[test]
fn whatever_stands_after_the_end_is_refused() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("w").tensor("0", &[2]).raw(b"s.");
    // A second pickle after STOP, as stacked pickles hide one; in the legacy layout it stands where the storages' keys should.
    for extra in [&b"."[..], b"\x80\x02cos\nsystem\n.", b"\0"] {
        let stacked = [&pickle.0, extra].concat();
        refused(&archive(&stacked), &["follow the end of the pickle"]);
        refused(&legacy(&stacked), &[]);
        refused(
            &[&legacy(&pickle.0), extra].concat(),
            &["follow the end of the pickle"],
        );
    }
    // Several values, an open mark, and no end.
    refused(&archive(b"\x80\x02NN."), &["`STOP`", "one value"]);
    refused(&archive(b"\x80\x02("), &["`STOP`"]);
    refused(&archive(b"\x80\x02N("), &[]);
    refused(&archive(b"\x80\x02."), &["`STOP`", "a value"]);
    refused(&archive(b""), &["`PROTO`"]);
    refused(&archive(b"N."), &["no protocol"]);
    refused(&archive(b"\x80\x06N."), &["protocol 6"]);
    refused(&archive(b"\x80\x00N."), &["protocol 0"]);
}

#[test]
fn archives_that_two_readers_could_understand_differently_are_refused() {
    let mut good = Pickle::new();
    good.raw(b"}").text("w").tensor("0", &[2]).raw(b"s.");
    let bad = around(b"cos\nsystem\nX\x02\x00\x00\x00id\x85R");
    let member = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let data = member("x/data/0", &[0; 8]);
    let table: Vec<(&str, Vec<(String, Vec<u8>)>, &str)> = vec![
        (
            "a second pickle beside the first",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("y/data.pkl", &bad),
            ],
            "exactly one",
        ),
        (
            "a pickle under another name",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/extra.pkl", &bad),
            ],
            "`x/extra.pkl` is not part",
        ),
        (
            "a pickle among the storages' folders",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/data/sub/0", &bad),
            ],
            "`x/data/sub/0` is not part",
        ),
        (
            "source code, as in the model archive format",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/model.py", b"import os"),
            ],
            "`x/model.py` is not part",
        ),
        (
            "a TorchScript program",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/constants.pkl", b"\x80\x02)."),
            ],
            "TorchScript",
        ),
        (
            "a path that leaves the folder",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/../../etc/passwd", b""),
            ],
            "is not part",
        ),
        (
            "an absolute path",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("/etc/passwd", b""),
            ],
            "is not part",
        ),
        (
            "no folder",
            vec![member("data.pkl", &good.0), member("data/0", &[0; 8])],
            "in one folder",
        ),
        ("no pickle", vec![data.clone()], "exactly one"),
        (
            "big-endian storages",
            vec![
                member("x/data.pkl", &good.0),
                data.clone(),
                member("x/byteorder", b"big"),
            ],
            "byte order `big`",
        ),
        (
            "a storage that is too short",
            vec![member("x/data.pkl", &good.0), member("x/data/0", &[0; 7])],
            "the archive has 7",
        ),
        (
            "a storage that is too long",
            vec![member("x/data.pkl", &good.0), member("x/data/0", &[0; 9])],
            "the archive has 9",
        ),
        (
            "a storage that is not there",
            vec![member("x/data.pkl", &good.0)],
            "not in the file",
        ),
    ];
    for (name, members, message) in table {
        let error = open(&zip_of(&members)).unwrap_err();
        assert!(error.to_string().contains(message), "{name}: {error}");
        let exit = error.class().exit_code();
        assert_eq!(
            exit,
            if name.starts_with("big") { 1 } else { 4 },
            "{name}: {error}"
        );
    }

    // One archive, spoilt: local header against directory, flags, method, a hidden member, bytes before and after, a wrong checksum.
    let sound = zip_of(&[member("x/data.pkl", &good.0), data.clone()]);
    open(&sound).unwrap();
    let directory = sound.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let spoilt = |at: usize, bytes: &[u8]| {
        let mut out = sound.clone();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        out
    };
    let hidden = {
        let mut out = zip_of(&[member("x/data.pkl", &bad)]);
        let end = out.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        out.truncate(end);
        [out, sound.clone()].concat()
    };
    // Flags that no checkpoint has: patched data, strong encryption, masked headers, and one of both headers alone.
    for flags in [0x20u16, 0x40, 0x2000, 0x10, 0x8000, 0x1000] {
        let mut both = spoilt(directory + 8, &flags.to_le_bytes());
        both[6..8].copy_from_slice(&flags.to_le_bytes());
        for bytes in [
            both,
            spoilt(directory + 8, &flags.to_le_bytes()),
            spoilt(6, &flags.to_le_bytes()),
        ] {
            let error = open(&bytes).unwrap_err();
            assert_eq!(error.class().exit_code(), 4, "{flags:#x}: {error}");
        }
    }
    let end = sound.len() - 22;
    let insert = |at: usize, bytes: &[u8], shift_directory: bool| {
        let mut out = [&sound[..at], bytes, &sound[at..]].concat();
        if shift_directory {
            let end = out.len() - 22;
            let moved = u32::try_from(directory + bytes.len()).unwrap();
            out[end + 16..end + 20].copy_from_slice(&moved.to_le_bytes());
        }
        out
    };
    let commented = {
        let mut out = [&sound[..], b"note"].concat();
        out[end + 20] = 4;
        out
    };
    let odd_name = zip_of(&[
        member("x\\y/data.pkl", &good.0),
        member("x\\y/data/0", &[0; 8]),
    ]);
    let up = zip_of(&[member("../data.pkl", &good.0), member("../data/0", &[0; 8])]);
    let table: [(&str, Vec<u8>); 17] = [
        (
            "bytes between the members and the directory",
            insert(directory, b"gap!", true),
        ),
        (
            "the same, and they look like a member",
            insert(directory, &sound[..directory], true),
        ),
        (
            "bytes between the directory and its end",
            insert(end, b"gap!", false),
        ),
        ("bytes after the end", [&sound[..], b"more"].concat()),
        ("a comment after the end", commented),
        (
            "another number of entries at the end",
            spoilt(end + 8, &[1, 0]),
        ),
        ("a folder with a backslash", odd_name),
        ("a folder that leads up", up),
        (
            "the name in the local header only",
            spoilt(30, b"y/data.pkl"),
        ),
        (
            "the name in the directory only",
            spoilt(directory + 46, b"y/data.pkl"),
        ),
        (
            "encrypted by its flag in the directory",
            spoilt(directory + 8, &[1]),
        ),
        ("encrypted by its flag in the local header", spoilt(6, &[1])),
        (
            "another compression in the directory",
            spoilt(directory + 10, &[8]),
        ),
        ("another compression in the local header", spoilt(8, &[8])),
        ("another checksum", spoilt(directory + 16, &[1, 2, 3, 4])),
        (
            "a member before the archive that the directory does not list",
            hidden,
        ),
        (
            "bytes before the archive",
            [b"PK\x03\x04....".to_vec(), sound.clone()].concat(),
        ),
    ];
    for (name, bytes) in table {
        let error = open(&bytes).unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "{name}: {error}");
    }
    // Cut anywhere, it is refused.
    for len in (0..sound.len()).step_by(7) {
        let error = open(&sound[..len]).unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "cut at {len}: {error}");
    }
}

#[test]
fn other_containers_are_named_and_refused() {
    let table: [(&[u8], &str); 7] = [
        (b"7z\xbc\xaf\x27\x1c\0\0\0\0", "a 7z archive"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x93NUMPY\x01\0\x76\0{'descr': '|O'", "a NumPy array"),
        (b"\x80\x02}q\0.", "a Python pickle of something else"),
        (b"sys_info\0\0\0\0\0\0\0\0", "of no known kind"),
        (b"", "of no known kind"),
    ];
    for (bytes, message) in table {
        let error = refused(bytes, &[message]);
        assert_eq!(error.code(), "unsafe_format");
    }
}

#[test]
fn the_command_line_refuses_with_exit_code_4_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let attack = around(b"cposix\nsystem\nX\x02\x00\x00\x00id\x85R");
    fs::write(dir.path().join("pytorch_model.bin"), archive(&attack)).unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let commands: [&[&str]; 5] = [
        &["import", "pytorch_model.bin", "-o", "out"],
        &["import", ".", "-o", "out"],
        &["convert", ".", "--target", "onnx", "-o", "out"],
        &[
            "convert",
            "pytorch_model.bin",
            "--target",
            "coreml",
            "-o",
            "out",
        ],
        &["inspect", "pytorch_model.bin"],
    ];
    for arguments in commands {
        let (code, document) = run_json(dir.path(), arguments);
        assert_eq!(code, 4, "{document:#}");
        assert_eq!(document["error"]["code"], "unsafe_pickle");
        let message = document["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("at byte") && message.contains("`posix.system`"),
            "{message}"
        );
        assert!(!dir.path().join("out").exists());
    }
    let names = crate::common::entries(dir.path(), &[]);
    assert_eq!(names, ["config.json", "pytorch_model.bin"]);
}
