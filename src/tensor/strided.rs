//! A view with strides into a region of a file, read as if it lay there in row-major order. Nothing of it is written out or held as a whole:
//! it is put in order tile by tile, as it is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bytes::{FileRegion, SourceFile};
use super::num;
use crate::error::Result;

/// In tests, small views are walked like large ones.
const SMALL: bool = cfg!(test);
/// Bytes that are put in order at once, and wait to be read.
const TILE_BYTES: u64 = if SMALL { 1 << 16 } else { 32 << 20 };
/// Tiles that wait at most: as many as threads write a file.
const TILES: usize = crate::limits::WRITER_THREADS;
/// Bytes read at once from where the view looks.
const BUFFER_BYTES: u64 = if SMALL { 1 << 12 } else { 1 << 20 };
/// Bytes that are rather read along than skipped: a read costs as much as copying them.
const GAP_BYTES: u64 = if SMALL { 64 } else { 4096 };
/// Keeps slabs whose size is a power of two from falling into the same lines of a cache.
const PADDING: u64 = 64;

/// An axis of a view, or of a part of one.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: u64,
    /// Distance of neighbours in the file, in elements.
    stride: u64,
    /// The same in the result.
    out: u64,
}

/// A view whose elements lie within its region.
#[derive(Debug)]
pub(super) struct Strided {
    region: FileRegion,
    /// Bytes of an element.
    width: u64,
    /// Axes of more than one element, outermost first; those that can be walked as one are one.
    axes: Vec<Axis>,
    tiles: Arc<Tiles>,
    len: u64,
}

/// Tiles of several views that wait for their readers: the views of one checkpoint share them, so that their number is bounded.
#[derive(Debug, Default)]
pub struct Tiles(Mutex<Vec<Tile>>);

#[derive(Clone, Debug)]
struct Tile {
    /// The address of the view.
    view: usize,
    /// Its first byte in the view.
    start: u64,
    bytes: Arc<Vec<u8>>,
}

impl Tiles {
    fn waiting(&self) -> MutexGuard<'_, Vec<Tile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Strided {
    /// The view of `shape` and `strides`, both in elements of `width` bytes; the first element is the first of the region.
    ///
    /// Returns `None` when it leaves the region or its size overflows.
    pub(super) fn new(
        region: FileRegion,
        width: u64,
        shape: &[u64],
        strides: &[u64],
        tiles: &Arc<Tiles>,
    ) -> Option<Self> {
        let mut axes: Vec<Axis> = Vec::new();
        let (mut count, mut last) = (1u64, 0u64);
        for (&extent, &stride) in shape.iter().zip(strides).rev() {
            if extent != 1 {
                last = last.checked_add(extent.checked_sub(1)?.checked_mul(stride)?)?;
                match axes.last_mut() {
                    Some(inner) if stride == inner.extent.checked_mul(inner.stride)? => {
                        inner.extent = inner.extent.checked_mul(extent)?;
                    }
                    _ => axes.push(Axis {
                        extent,
                        stride,
                        out: count,
                    }),
                }
                count = count.checked_mul(extent)?;
            }
        }
        axes.reverse();
        let inside = last.checked_add(1)?.checked_mul(width)? <= region.len;
        let len = count.checked_mul(width)?;
        inside.then(|| Strided {
            region,
            width,
            axes,
            tiles: Arc::clone(tiles),
            len,
        })
    }

    /// The file that it looks into.
    pub(super) fn file(&self) -> &SourceFile {
        &self.region.file
    }

    /// Bytes of the view.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with the bytes of the view from `offset` on; both lie within it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + num::u64_of(done);
            let (start, axes) = self.tile(at / self.width);
            let begin = start
                .iter()
                .zip(&self.axes)
                .map(|(i, a)| i * a.out)
                .sum::<u64>()
                * self.width;
            let bytes = self.gathered(begin, &start, &axes)?;
            let inside = num::usize_of(at - begin);
            let n = (bytes.len() - inside).min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&bytes[inside..inside + n]);
            done += n;
            if inside + n == bytes.len() {
                // Whoever reads in order does not come back.
                let view = self.address();
                self.tiles
                    .waiting()
                    .retain(|t| t.view != view || t.start != begin);
            }
        }
        Ok(())
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The tile that has this element: where it begins along each axis, and its own axes. It is whole along the inner axes, a range of one,
    /// and a single place along the outer ones, so that its elements are neighbours in the result.
    fn tile(&self, element: u64) -> (Vec<u64>, Vec<Axis>) {
        let most = (TILE_BYTES / self.width).max(1);
        let mut start = vec![0; self.axes.len()];
        let mut axes = self.axes.clone();
        let mut rest = element;
        for (i, axis) in self.axes.iter().enumerate() {
            if axis.extent * axis.out <= most {
                break;
            }
            let rows = (most / axis.out).max(1);
            let row = rest / axis.out;
            start[i] = row / rows * rows;
            axes[i].extent = rows.min(axis.extent - start[i]);
            if rows > 1 {
                break;
            }
            rest -= row * axis.out;
        }
        (start, axes)
    }

    fn gathered(&self, begin: u64, start: &[u64], axes: &[Axis]) -> Result<Arc<Vec<u8>>> {
        let view = self.address();
        let known = |t: &&Tile| t.view == view && t.start == begin;
        if let Some(tile) = self.tiles.waiting().iter().find(known) {
            return Ok(Arc::clone(&tile.bytes));
        }
        let count: u64 = axes.iter().map(|a| a.extent).product();
        let mut bytes = vec![0; num::usize_of(count * self.width)];
        let from = start
            .iter()
            .zip(&self.axes)
            .map(|(i, a)| i * a.stride)
            .sum();
        self.gather(from, 0, axes, &mut Vec::new(), &mut bytes)?;
        let bytes = Arc::new(bytes);
        let mut waiting = self.tiles.waiting();
        if waiting.len() >= TILES {
            waiting.remove(0);
        }
        waiting.push(Tile {
            view,
            start: begin,
            bytes: Arc::clone(&bytes),
        });
        Ok(bytes)
    }

    /// Copies the elements that `axes` walk, from the element `from` of the region on, to the element `to` of `out` on.
    fn gather(
        &self,
        from: u64,
        to: u64,
        axes: &[Axis],
        buffer: &mut Vec<u8>,
        out: &mut [u8],
    ) -> Result<()> {
        let span = span(axes);
        if span * self.width <= BUFFER_BYTES {
            buffer.resize(num::usize_of(span * self.width), 0);
            self.read(from, buffer)?;
            self.place(buffer, axes, to, out);
            return Ok(());
        }
        // By their strides: the axes along which neighbours are read together, a slab, and those along which slabs follow one another.
        let mut order: Vec<usize> = (0..axes.len()).filter(|&i| axes[i].extent > 1).collect();
        order.retain(|&i| axes[i].stride > 0);
        order.sort_by_key(|&i| axes[i].stride);
        let (mut slab, mut inner) = (1, 0);
        for &i in &order {
            let wider = slab + (axes[i].extent - 1) * axes[i].stride;
            let gap = axes[i].stride.saturating_sub(slab);
            if wider * self.width > BUFFER_BYTES / 4 || gap * self.width > GAP_BYTES {
                break;
            }
            (slab, inner) = (wider, inner + 1);
        }
        let pitch = (slab * self.width + PADDING).div_ceil(self.width);
        let outer = &order[inner..];
        let slabs = outer
            .iter()
            .try_fold(1u64, |n, &i| n.checked_mul(axes[i].extent))
            .and_then(|n| n.checked_mul(pitch * self.width))
            .filter(|&bytes| bytes <= BUFFER_BYTES);
        let Some(bytes) = slabs else {
            return self.halves(from, to, axes, &order, buffer, out);
        };
        buffer.resize(num::usize_of(bytes), 0);
        // In the buffer, slabs lie one after another.
        let mut compact = axes.to_vec();
        let mut next = pitch;
        for &i in outer {
            compact[i].stride = next;
            next *= axes[i].extent;
        }
        let slab = num::usize_of(slab * self.width);
        let pitch = num::usize_of(pitch * self.width);
        let mut index = vec![0; outer.len()];
        let mut at = from;
        for part in buffer.chunks_mut(pitch) {
            self.read(at, &mut part[..slab])?;
            for (n, &i) in index.iter_mut().zip(outer) {
                *n += 1;
                at += axes[i].stride;
                if *n < axes[i].extent {
                    break;
                }
                at -= *n * axes[i].stride;
                *n = 0;
            }
        }
        self.place(buffer, &compact, to, out);
        Ok(())
    }

    /// [`Strided::gather`] in two halves along the axis with the widest strides.
    fn halves(
        &self,
        from: u64,
        to: u64,
        axes: &[Axis],
        order: &[usize],
        buffer: &mut Vec<u8>,
        out: &mut [u8],
    ) -> Result<()> {
        let mut first = axes.to_vec();
        let mut second = axes.to_vec();
        let (mut from_second, mut to_second) = (from, to);
        if let Some(&i) = order.last() {
            let half = axes[i].extent / 2;
            first[i].extent = half;
            second[i].extent -= half;
            from_second += half * axes[i].stride;
            to_second += half * axes[i].out;
        }
        self.gather(from, to, &first, buffer, out)?;
        self.gather(from_second, to_second, &second, buffer, out)
    }

    fn read(&self, element: u64, buffer: &mut [u8]) -> Result<()> {
        let at = self.region.offset + element * self.width;
        self.region.file.read_at(at, buffer)
    }

    /// Copies elements from where `axes` say in `buffer` to where they say in `out`, in the order of the result.
    fn place(&self, buffer: &[u8], axes: &[Axis], to: u64, out: &mut [u8]) {
        let walk = Walk::new(axes, to, num::usize_of(self.width));
        match self.width {
            1 => walk.run::<1>(buffer, out),
            2 => walk.run::<2>(buffer, out),
            4 => walk.run::<4>(buffer, out),
            8 => walk.run::<8>(buffer, out),
            16 => walk.run::<16>(buffer, out),
            _ => walk.run::<0>(buffer, out),
        }
    }
}

/// How many elements lie between the first and the last one, both included.
fn span(axes: &[Axis]) -> u64 {
    1 + axes.iter().map(|a| (a.extent - 1) * a.stride).sum::<u64>()
}

/// A way through a buffer and a result at once, all in bytes.
struct Walk {
    /// Extent, step in the buffer, step in the result; outermost first.
    outer: Vec<(usize, usize, usize)>,
    inner: (usize, usize, usize),
    to: usize,
    width: usize,
}

impl Walk {
    fn new(axes: &[Axis], to: u64, width: usize) -> Self {
        let step = |n: u64| num::usize_of(n) * width;
        let axes = axes.iter().filter(|a| a.extent > 1);
        let mut outer: Vec<_> = axes
            .map(|a| (num::usize_of(a.extent), step(a.stride), step(a.out)))
            .collect();
        let inner = outer.pop().unwrap_or((1, width, width));
        Walk {
            outer,
            inner,
            to: step(to),
            width,
        }
    }

    fn run<const W: usize>(&self, buffer: &[u8], out: &mut [u8]) {
        let (count, from_step, to_step) = self.inner;
        let mut index = vec![0; self.outer.len()];
        let (mut from, mut to) = (0, self.to);
        'rows: loop {
            if from_step == self.width && to_step == self.width {
                let bytes = count * self.width;
                out[to..to + bytes].copy_from_slice(&buffer[from..from + bytes]);
            } else {
                let (mut f, mut t) = (from, to);
                for _ in 0..count {
                    // A known width is one instruction; zero stands for any other.
                    let width = if W == 0 { self.width } else { W };
                    out[t..t + width].copy_from_slice(&buffer[f..f + width]);
                    f += from_step;
                    t += to_step;
                }
            }
            for (n, &(extent, f, t)) in index.iter_mut().zip(&self.outer).rev() {
                *n += 1;
                from += f;
                to += t;
                if *n < extent {
                    continue 'rows;
                }
                from -= extent * f;
                to -= extent * t;
                *n = 0;
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The view, element by element.
    fn expected(bytes: &[u8], width: usize, shape: &[u64], strides: &[u64]) -> Vec<u8> {
        let count: u64 = shape.iter().product();
        let mut out = Vec::new();
        for n in 0..count {
            let (mut rest, mut at) = (n, 0);
            for (&extent, &stride) in shape.iter().zip(strides).rev() {
                at += rest % extent * stride;
                rest /= extent;
            }
            let at = num::usize_of(at) * width;
            out.extend(&bytes[at..at + width]);
        }
        out
    }

    fn view(bytes: Vec<u8>, width: u64, shape: &[u64], strides: &[u64]) -> Option<Arc<SourceFile>> {
        let file = SourceFile::in_memory(Path::new("bytes"), bytes);
        let len = file.len();
        let region = FileRegion {
            file,
            offset: 0,
            len,
        };
        SourceFile::strided(region, width, shape, strides, &Arc::default())
    }

    fn pattern(len: u64) -> Vec<u8> {
        (0..len)
            .map(|i| ((i * 2_654_435_761) >> 11).to_le_bytes()[0])
            .collect()
    }

    proptest! {
        #[test]
        fn any_view_is_read_in_order(
            axes in prop::collection::vec((1u64..7, 0u64..40), 0..5),
            width in prop::sample::select(vec![1u64, 2, 3, 4, 8, 16]),
            step in 1usize..200,
        ) {
            let (shape, strides): (Vec<u64>, Vec<u64>) = axes.into_iter().unzip();
            let span = 1 + shape.iter().zip(&strides).map(|(n, s)| (n - 1) * s).sum::<u64>();
            let bytes = pattern(span * width);
            let file = view(bytes.clone(), width, &shape, &strides).unwrap();
            let expected = expected(&bytes, num::usize_of(width), &shape, &strides);
            prop_assert_eq!(file.len(), num::u64_of(expected.len()));
            let mut found = vec![0; expected.len()];
            for (i, part) in found.chunks_mut(step).enumerate() {
                file.read_at(num::u64_of(i * step), part).unwrap();
            }
            prop_assert_eq!(found, expected);
            prop_assert!(view(bytes[1..].to_vec(), width, &shape, &strides).is_none());
        }
    }

    #[test]
    fn large_views_are_read_tile_by_tile() {
        // Transposed with slabs, sparse columns, an outer axis of repeated elements, more than one tile, and elements far apart.
        let cases: [(u64, u64, &[u64], &[u64]); 5] = [
            (1 << 18, 1, &[512, 512], &[1, 512]),
            (1 << 18, 2, &[3, 256], &[1, 512]),
            (1 << 17, 1, &[20, 100, 100], &[0, 1, 1000]),
            (1 << 17, 4, &[140, 2, 70], &[1, 0, 140]),
            (1 << 18, 1, &[2, 3, 5], &[200_000, 20_000, 1]),
        ];
        for (len, width, shape, strides) in cases {
            let bytes = pattern(len);
            let expected = expected(&bytes, num::usize_of(width), shape, strides);
            let file = view(bytes, width, shape, strides).unwrap();
            let mut found = vec![0; expected.len()];
            for (i, part) in found.chunks_mut(3001).enumerate() {
                file.read_at(num::u64_of(i * 3001), part).unwrap();
            }
            assert!(found == expected, "{shape:?} {strides:?}");
            let mut whole = vec![0; expected.len()];
            file.read_at(0, &mut whole).unwrap();
            assert!(whole == expected, "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn tiles_that_were_read_are_gone_and_others_are_few() {
        let tiles: Arc<Tiles> = Arc::default();
        let file = SourceFile::in_memory(Path::new("bytes"), pattern(1 << 16));
        let views: Vec<_> = (0..TILES + 3)
            .map(|_| {
                let region = FileRegion {
                    file: Arc::clone(&file),
                    offset: 0,
                    len: file.len(),
                };
                SourceFile::strided(region, 1, &[256, 256], &[1, 256], &tiles).unwrap()
            })
            .collect();
        for view in &views {
            view.read_at(10, &mut [0; 100]).unwrap();
        }
        assert_eq!(tiles.waiting().len(), TILES);
        for view in &views {
            view.read_at(10, &mut vec![0; (1 << 16) - 10]).unwrap();
        }
        assert_eq!(tiles.waiting().len(), 0);
    }
}
