//! The input gradient on operands in host memory: there, one launch, and back.

use super::{GradLayer, GradProblem, Way, launch, supported};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::lowrank::{View, ViewMut};
use crate::mat::{MatMut, zeroed};
use crate::shared_gemm::grad::GRAD;
use crate::shared_gemm::{Addend, GradOperands};

/// Computes `dH`, one of its ways; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch`].
pub(crate) fn input_gradient<G: Gpu, T: Elem>(
    gpu: &G,
    way: &Way,
    operands: &GradOperands<'_, T>,
    mut dh: MatMut<'_, T>,
) -> Result<()> {
    let GradOperands { g, w, adapter, add } = operands;
    let width = adapter.as_ref().map_or(0, |adapter| adapter.skeleton.len());
    let problem = GradProblem { rows: w.rows(), cols: w.cols(), width, dtype: T::DTYPE, tokens: g.rows() };
    supported(problem.dtype)?;
    if problem.tokens == 0 {
        return Ok(());
    }
    let g_there = gpu.upload(GRAD, "g", g.data())?;
    let w_there = gpu.upload(GRAD, "w", w.data())?;
    let adapter_there = adapter
        .map(|adapter| {
            let dx = gpu.upload(GRAD, "dx", adapter.dx.data())?;
            Ok::<_, crate::Error>((dx, gpu.upload(GRAD, "skeleton", adapter.skeleton)?, adapter.dx.ld()))
        })
        .transpose()?;
    let add_there = match add {
        Addend::Matrix(add) => Some((gpu.upload(GRAD, "add", add.data())?, add.ld())),
        Addend::None | Addend::InPlace => None,
    };
    // As it is, so that what lies between its rows comes back so.
    let mut dh_there = gpu.upload(GRAD, "dh", dh.as_ref().data())?;
    let held = View::at(gpu.address(&dh_there), dh.ld());
    let mut layer = GradLayer {
        g: View::whole(gpu, &g_there, g.ld()),
        w: View::whole(gpu, &w_there, w.ld()),
        components: adapter_there
            .as_ref()
            .map(|(dx, skeleton, ld)| [View::whole(gpu, dx, *ld), View::whole(gpu, skeleton, 0)]),
        add: match add {
            Addend::InPlace => Some(held),
            Addend::None | Addend::Matrix(_) => add_there.as_ref().map(|(add, ld)| View::whole(gpu, add, *ld)),
        },
        dh: ViewMut::whole(gpu, &mut dh_there, dh.ld()),
    };
    launch(gpu, &problem, way, &mut layer)?;

    let bytes: &mut [u8] = bytemuck::cast_slice_mut(dh.data_mut());
    let mut fetched = zeroed("result", bytes.len())?;
    gpu.download(GRAD, &dh_there, &mut fetched)?;
    bytes.copy_from_slice(&fetched);
    Ok(())
}
