//! Buffers and views on a device: contents, sizes, addresses, and what they refuse.

use crate::common::kernel_devices;
use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
use idlora::{Device, Error, bf16};

#[test]
fn buffers_hold_what_they_are_given() {
    for device in kernel_devices() {
        let mut buffer = Buffer::from_slice(&device, &[1.5f32, 2.5, 3.5]).unwrap();
        assert_eq!((buffer.len(), buffer.is_empty(), buffer.device()), (3, false, &device));
        assert_eq!(buffer.to_vec().unwrap(), [1.5, 2.5, 3.5]);
        buffer.write(&[4.0, 5.0, 6.0]).unwrap();
        let mut found = [0.0; 3];
        buffer.copy_to(&mut found).unwrap();
        assert_eq!(found, [4.0, 5.0, 6.0]);
        for (error, found) in [(buffer.write(&[0.0; 2]), 2), (buffer.copy_to(&mut [0.0; 4]), 4)] {
            let message = error.unwrap_err().to_string();
            assert_eq!(message, format!("buffer: `data` has length {found}, expected length 3"));
        }
        assert_eq!(buffer.to_vec().unwrap(), [4.0, 5.0, 6.0], "unchanged");
        assert_eq!(Buffer::<u32>::zeros(&device, 5).unwrap().to_vec().unwrap(), [0; 5]);
        assert!(Buffer::<u32>::from_slice(&device, &[]).unwrap().to_vec().unwrap().is_empty());
        let error = Buffer::<f32>::zeros(&device, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { what: "buffer", .. }), "{error}");
        let error = Workspace::new(&device, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { what: "workspace", .. }), "{error}");
        assert_eq!(Workspace::new(&device, 1).unwrap().bytes(), 256, "its head");
    }
}

#[test]
fn nothing_lies_on_the_host() {
    let cpu = Device::Cpu;
    for error in [
        Buffer::from_slice(&cpu, &[1.0f32]).map(drop),
        Buffer::<f32>::zeros(&cpu, 1).map(drop),
        Workspace::new(&cpu, 1).map(drop),
    ] {
        let message = error.unwrap_err().to_string();
        assert_eq!(message, "device `cpu`: runs no kernels, so nothing lies on it; its operations take slices");
    }
}

#[test]
fn views_need_their_span() {
    for device in kernel_devices() {
        let mut buffer = Buffer::from_slice(&device, &[0.0f32; 11]).unwrap();
        let view = MatRef::with_ld(&buffer, 3, 3, 4).unwrap();
        assert_eq!((view.rows(), view.cols(), view.ld(), view.address()), (3, 3, 4, buffer.address()));
        drop(view);
        let view = MatRef::starting_at(&buffer, 5, 2, 2, 4).unwrap();
        assert_eq!((view.shape(), view.address()), ((2, 2), buffer.address() + 20));
        drop(view);
        assert_eq!(MatRef::new(&buffer, 11, 1).unwrap().ld(), 1);
        MatRef::starting_at(&buffer, 11, 0, 7, 9).unwrap();
        let says = |result: idlora::Result<MatRef<'_, f32>>, part: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(part), "`{message}` does not say `{part}`");
        };
        says(MatRef::new(&buffer, 3, 4), "`data` has 11 elements, expected at least 12 elements for [3, 4] with ld 4");
        says(MatRef::starting_at(&buffer, 6, 2, 2, 4), "`data` has 5 elements, expected at least 6");
        says(MatRef::with_ld(&buffer, 2, 5, 4), "`ld` has 4, expected at least cols = 5");
        says(MatRef::starting_at(&buffer, 12, 0, 1, 1), "`start` is 12, expected at most 11, the buffer's length");
        says(MatRef::with_ld(&buffer, usize::MAX, 3, 4), "cannot allocate");
        let mut view = MatMut::starting_at(&mut buffer, 1, 2, 4, 5).unwrap();
        assert_eq!((view.shape(), view.ld()), ((2, 4), 5));
        let address = view.address();
        assert_eq!(view.reborrow().address(), address);
        assert_eq!(view.as_ref().address(), address);
        drop(view);
        assert!(MatMut::with_ld(&mut buffer, 3, 4, 4).is_err());
        assert!(MatMut::new(&mut buffer, 12, 1).is_err());
    }
}

#[allow(unsafe_code)]
#[test]
fn addresses_are_checked_for_what_can_be_seen() {
    // SAFETY: nothing is launched.
    let (read, written) =
        unsafe { (MatRef::<bf16>::from_raw(0x1002, 8, 2, 3, 5), MatMut::<f32>::from_raw(0x1004, 8, 2, 3, 5)) };
    let (read, written) = (read.unwrap(), written.unwrap());
    assert_eq!((read.address(), read.shape(), read.ld()), (0x1002, (2, 3), 5));
    assert_eq!((written.address(), written.shape(), written.ld()), (0x1004, (2, 3), 5));
    // SAFETY: as above.
    let refused = unsafe {
        [
            MatRef::<bf16>::from_raw(0x1001, 8, 2, 3, 5).map(drop),
            MatMut::<f32>::from_raw(0x1002, 8, 2, 3, 5).map(drop),
            MatMut::<f32>::from_raw(0x1000, 7, 2, 3, 5).map(drop),
            MatRef::<f32>::from_raw(0x1000, 8, 2, 3, 2).map(drop),
        ]
    };
    let expected = [
        "`address` is 0x1001, expected a multiple of 2, the element's alignment",
        "`address` is 0x1002, expected a multiple of 4, the element's alignment",
        "`data` has 7 elements, expected at least 8 elements for [2, 3] with ld 5",
        "`ld` has 2, expected at least cols = 3",
    ];
    for (error, expected) in refused.into_iter().zip(expected) {
        assert_eq!(error.unwrap_err().to_string(), format!("matrix view: {expected}"));
    }
}
