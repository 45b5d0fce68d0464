"""An ID-LoRA adapter around a frozen `torch.nn.Linear`, differentiable: `IdLoraLinear(linear, "layer.0.query", config)`.

B and the gate are `torch.nn.Parameter`s of float32, for any optimiser of torch; activations are float32, float16 or bfloat16,
on the CPU or, where the library was built with `cuda`, on the current CUDA device and stream. Tensors are passed by DLPack,
without copies.
"""

import idlora
import torch
from torch.autograd.function import once_differentiable


class _Apply(torch.autograd.Function):
    """Y from the base product Y0 = W h, with gradients for Y0, B, the gate and (linear gates) the input."""

    @staticmethod
    def forward(ctx, y0, b, gate, h, plan, bias, dropout):
        tokens, (rank, components) = y0.shape[0], plan.sizes
        y = torch.empty_like(y0)
        x, a = y0.new_empty(tokens, components * rank), y0.new_empty(tokens, components, dtype=torch.float32)
        # DLPack passes no tensors that want gradients; contiguous already, unless somebody has given a parameter other strides.
        y0, b, gate = y0.detach(), b.detach().contiguous(), gate.detach().contiguous()
        h = None if h is None else h.detach()
        plan.of(y0).forward(y, y0=y0, b=b, gate=gate, h=h, bias=bias, dropout=dropout, saved=(x, a))
        ctx.save_for_backward(b, gate, h, x, a)
        ctx.plan, ctx.dropout = plan, dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        b, gate, h, x, a = ctx.saved_tensors
        # It becomes dL/dY0, and torch may still need what it was.
        g = g.clone(memory_format=torch.contiguous_format)
        db, dgate = torch.empty_like(b), torch.empty_like(gate)
        dh = torch.empty_like(h) if h is not None and ctx.needs_input_grad[3] else None
        ctx.plan.of(g).backward(
            b=b, gate=gate, h=h, saved=(x, a), scatter=g, grad_b=db, grad_gate=dgate, grad_h=dh, dropout=ctx.dropout
        )
        return g, db, dgate, dh, None, None, None


class _Plans:
    """A module's plans: one for the CPU, one for every CUDA stream that it was called on."""

    def __init__(self, adapter, bias):
        self._adapter, self._bias, self._plans = adapter, bias, {}
        self.sizes = adapter.rank, adapter.components

    def of(self, tensor):
        if tensor.device.type == "cpu":
            key = None
        else:
            key = tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream
        if key not in self._plans:
            device = idlora.Device() if key is None else idlora.Device(ordinal=key[0], stream=key[1])
            self._plans[key] = idlora.Plan(device, self._adapter, bias=self._bias)
        return self._plans[key]


class IdLoraLinear(torch.nn.Module):
    """`linear`, frozen, and its adapter. With `dropout` it drops values of x in training, from torch's generator's seed."""

    def __init__(self, linear, name, config, dropout=0.0):
        super().__init__()
        self.base, self.dropout = linear.requires_grad_(False), dropout
        weight = linear.weight.detach().cpu().contiguous()
        self.adapter = idlora.Adapter.init(idlora.Device(), name, weight, config)
        tensor = lambda which, shape: torch.tensor(self.adapter.read(which), dtype=torch.float32).reshape(shape)
        self.b = torch.nn.Parameter(tensor("b", self.adapter.b_shape).to(linear.weight.device))
        self.gate = torch.nn.Parameter(tensor("gate", self.adapter.gate_shape).to(linear.weight.device))
        self._plans = _Plans(self.adapter, "none" if linear.bias is None else "separate")

    def forward(self, h):
        # The adapter adds the bias: x is gathered without it, and loses no digits to one much larger than W h.
        y0 = torch.nn.functional.linear(h, self.base.weight)
        tokens = h.reshape(-1, h.shape[-1]).contiguous() if "linear" in self.adapter.gate else None
        dropout = None
        if self.training and self.dropout > 0.0:
            dropout = self.dropout, int(torch.randint(2**63 - 1, ()).item()), 0
        bias = None if self.base.bias is None else self.base.bias.detach()
        flat = y0.reshape(-1, y0.shape[-1]).contiguous()
        return _Apply.apply(flat, self.b, self.gate, tokens, self._plans, bias, dropout).reshape(y0.shape)

    def trained_adapter(self):
        """The adapter with what has been trained, to save: `idlora.save(directory, [...])`."""
        self.adapter.write("b", self.b.detach().cpu().contiguous())
        self.adapter.write("gate", self.gate.detach().cpu().contiguous())
        return self.adapter
