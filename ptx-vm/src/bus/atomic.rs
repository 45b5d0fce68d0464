//! `atom` and `red`, wherever their address leads.

use super::lanes::{self, Element};
use super::report::{Request, Verb};
use super::rmw::Modify;
use super::shared::low;
use super::{BlockMemory, Bus, Lanes64, device, route};
use crate::check::At;
use crate::isa::{Atomic, Order, Scope, Space};

impl Bus<'_> {
    /// `atom`, `red`: lanes in ascending order. `old` receives the previous values.
    #[allow(clippy::too_many_arguments)] // the operands of the instruction
    pub fn atomic(
        &mut self,
        block: &mut BlockMemory,
        at: At,
        atomic: Atomic,
        mask: u32,
        address: &Lanes64,
        b: &Lanes64,
        c: &Lanes64,
        old: &mut Lanes64,
    ) {
        let order = match atomic.order {
            Order::Weak => Order::Relaxed(Scope::Gpu), // what no modifier means
            order => order,
        };
        let modify = |space| Modify::new(atomic, space != Space::Shared, b, c);
        let size = modify(atomic.space).size();
        let request = Request { at, verb: Verb::Atomic, space: atomic.space, size, order };
        let mut done = 0;
        route::each(atomic.space, mask, address, |space, mask, address| {
            done |= match space {
                Space::Shared => self.atomic_shared(block, request, modify(space), mask, address, old),
                Space::Local => {
                    self.refuse_local(request, mask, address);
                    0
                }
                Space::Param => {
                    self.refuse_param(request, mask, address);
                    0
                }
                _ => self.atomic_device(request, modify(space), mask, address, old),
            };
        });
        if done != mask {
            lanes::gather_poison(Element::of(atomic.ty), mask & !done, std::slice::from_mut(old));
        }
    }

    fn atomic_device(
        &mut self,
        request: Request,
        modify: Modify<'_>,
        mask: u32,
        address: &Lanes64,
        old: &mut Lanes64,
    ) -> u32 {
        let mut rest = self.aligned(request, mask, address);
        let (mut offset, mut done) = ([0; 32], 0);
        while let Some(group) = self.next_group(request, &mut rest, address, &mut offset) {
            self.device_read(request, group, &offset);
            let bytes = &mut self.memory.allocations[group.index].bytes;
            let wrote = device::Group { lanes: modify.apply(bytes, group.lanes, &offset, old), ..group };
            let failed = device::Group { lanes: group.lanes & !wrote.lanes, ..group };
            self.device_written(request, wrote, &offset);
            self.device_race(request, wrote, &offset);
            self.device_race(Request { verb: Verb::Read, ..request }, failed, &offset);
            self.count_device(request, group, &offset);
            done |= group.lanes;
        }
        done
    }

    fn atomic_shared(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        modify: Modify<'_>,
        mask: u32,
        address: &Lanes64,
        old: &mut Lanes64,
    ) -> u32 {
        let offset = low(address);
        let lanes = self.shared_bounds(block, request, mask, &offset);
        let clean = self.shared_read(block, request, lanes, &offset);
        let wrote = modify.apply(&mut block.shared.bytes, lanes, &offset, old);
        block.shared.written.record(wrote, &offset, request.size);
        self.shared_strong(block, request, clean, wrote, &offset);
        self.recorder.shared_atomic(request.at.pc, lanes, &offset, request.size);
        lanes
    }
}
