"""Loads adapters that `idlora export --peft` wrote into stock PEFT and compares what the models then compute with what
`idlora merge` and `idlora apply` make of the same adapters.

`check_peft.py IDLORA MODEL`: the `idlora` binary, and a folder with all-MiniLM-L6-v2 as transformers reads it.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

import peft
import safetensors.torch
import torch
import transformers

BOUND = 1e-5


class Failed(Exception):
    pass


def largest(a, b):
    return (a - b).abs().max().item()


def require(condition, text):
    if not condition:
        raise Failed(text)


class Case:
    """One base model, one adapter, and the model with that adapter in PEFT and merged."""

    def __init__(self, folder, idlora, name, base, init, export, load):
        self.folder, self.program, self.name, self.load = folder / name, idlora, name, load
        self.folder.mkdir()
        self.base, self.weights = base, base / "model.safetensors"
        self.adapter, self.lora, self.merged = (self.folder / part for part in ("adapter", "lora", "merged"))
        self.idlora("init", self.weights, "--gate", "static", "--b-init", "normal", "--out", self.adapter, *init)
        self.idlora("export", self.weights, self.adapter, "--peft", "--out", self.lora, *export)
        shutil.copytree(base, self.merged, ignore=shutil.ignore_patterns("model.safetensors"))
        self.idlora("merge", self.weights, self.adapter, "--out", self.merged / "model.safetensors")

    def idlora(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        require(done.returncode == 0, f"{self.name}: idlora {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def modules(self):
        return json.loads(self.idlora("inspect", self.adapter, "--json"))["modules"]

    def peft_model(self):
        """The base with the adapter as PEFT loads it; it must take every tensor of the file for a trained one."""
        model = self.load(self.base)
        result = peft.PeftModel.from_pretrained(model, self.lora).eval()
        stored = safetensors.torch.load_file(self.lora / "adapter_model.safetensors")
        state = {name: value for name, value in result.state_dict().items() if ".lora_" in name}
        expected = {name.replace(".weight", ".default.weight"): value for name, value in stored.items()}
        require(state.keys() == expected.keys(), f"{self.name}: PEFT has {len(state)} tensors, the file {len(expected)}")
        for name, value in expected.items():
            require(torch.equal(state[name], value.to(state[name].dtype)), f"{self.name}: {name} is not what was exported")
        return result

    def compare(self, run):
        """Largest differences: PEFT against merged weights, and what the adapter changes at all."""
        with torch.no_grad():
            plain, merged, adapted = run(self.load(self.base)), run(self.load(self.merged)), run(self.peft_model())
        difference, change = largest(adapted, merged), largest(adapted, plain)
        print(f"{self.name:<24} {len(self.modules()):>3} modules  PEFT − merged {difference:.1e}  adapter's effect {change:.1e}")
        require(change > 1e3 * BOUND, f"{self.name}: the adapter changes next to nothing")
        require(difference < BOUND, f"{self.name}: PEFT and the merged weights differ by {difference:.1e}")

    def compare_modules(self, run):
        """Each adapted layer alone, on the input that it gets in the model: PEFT's output against `idlora apply`'s."""
        model, seen = self.peft_model(), {}
        layers = {name: layer for name, layer in model.base_model.model.named_modules() if hasattr(layer, "lora_A")}

        def record(name):
            return lambda layer, inputs, output: seen.__setitem__(name, (inputs[0].reshape(-1, inputs[0].shape[-1]), output))

        for name, layer in layers.items():
            layer.register_forward_hook(record(name))
        with torch.no_grad():
            run(model)
        worst = 0.0
        modules = self.modules()
        require(len(modules) == len(layers), f"{self.name}: {len(layers)} adapted layers instead of {len(modules)}")
        for module in modules:
            path = module["name"].removesuffix(".weight")
            inputs, output = seen[path]
            with torch.no_grad():
                y0 = layers[path].base_layer(inputs)
            request = {"y0": y0, "bias": layers[path].base_layer.bias.detach()}
            source, result = self.folder / "in.safetensors", self.folder / "out.safetensors"
            safetensors.torch.save_file({name: value.contiguous() for name, value in request.items()}, source)
            result.unlink(missing_ok=True)
            self.idlora("apply", self.adapter, "--module", path, "--input", source, "--out", result)
            y = safetensors.torch.load_file(result)["y"]
            worst = max(worst, largest(y, output.reshape(y.shape)))
        print(f"{self.name:<24} {len(modules):>3} modules  PEFT − apply  {worst:.1e}, the largest of all modules' outputs")
        require(worst < BOUND, f"{self.name}: PEFT and `idlora apply` differ by {worst:.1e}")


def minilm(folder, idlora, model):
    """All linear layers of a real encoder: alike, and with ranks and α that differ between modules."""
    tokens = transformers.AutoTokenizer.from_pretrained(model)(
        ["The rows of a matrix span it.", "Stock markets fell sharply on Monday after the announcement."],
        padding=True,
        return_tensors="pt",
    )
    load = lambda path: transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()

    def run(loaded):
        # Padded positions mean nothing.
        return loaded(**tokens).last_hidden_state[tokens["attention_mask"].bool()]

    for name, init in {
        "minilm": ["--alpha", "2"],
        "minilm, patterns": ["--alpha", "2", "--pattern", "intermediate=8:0.75", "--pattern", "query=4:1"],
    }.items():
        case = Case(folder, idlora, name, model, init, [], load)
        case.compare(run)
        case.compare_modules(run)


def gpt2(folder, idlora):
    """Conv1D layers, stored [in, out]. The file is that of a body, whose names lack what the model with a head puts in front."""
    config = transformers.GPT2Config(n_layer=2, n_head=4, n_embd=64, n_positions=32, vocab_size=101, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    base = folder / "gpt2"
    transformers.GPT2Model(config).save_pretrained(base)
    ids = torch.arange(24).reshape(2, 12) * 4
    load = lambda path: transformers.GPT2LMHeadModel.from_pretrained(path, dtype=torch.float32).eval()
    init = ["--match", r"attn|mlp", "--layout", "in-out", "--rank", "8", "--alpha", "4"]
    case = Case(folder, idlora, "gpt2, Conv1D", base, init, ["--prefix", "=transformer."], load)
    require(json.loads((case.lora / "adapter_config.json").read_text())["fan_in_fan_out"], "fan_in_fan_out is not set")
    case.compare(lambda loaded: loaded(input_ids=ids).logits)


def main(idlora, model):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # PEFT only warns of tensors that it misses and of settings that it corrects; here that is a failure.
    warnings.simplefilter("error", UserWarning)
    warnings.simplefilter("ignore", FutureWarning)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            minilm(pathlib.Path(folder), idlora, pathlib.Path(model))
            gpt2(pathlib.Path(folder), idlora)
    except Failed as failure:
        sys.exit(f"FAILED  {failure}")


main(*sys.argv[1:])
