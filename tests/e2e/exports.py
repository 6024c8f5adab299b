#!/usr/bin/env python3
"""Weights in and out: exports of runs, conversions, sampling from them, tmd forward, training from a published folder."""
import json
import math
import random
import re
import struct
import sys

from jobs import CLIPS, Workplace, check, main
from verbs import data_hash, tmd

STAGES = ["--teacher.iterations=2", "--stage1.iterations=2", "--stage2.iterations=5"]
DMD2V = ["--method.name=dmd2v", "--method.outer_steps=4", "--run.stages=teacher,stage2", *STAGES]


def read_safetensors(path):
    """Metadata and {name: (dtype, shape, bytes)} of one file."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    metadata = header.pop("__metadata__", {})
    data = content[8 + size:]
    return metadata, {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in header.items()}


def write_safetensors(path, tensors, sparse_bytes=None, metadata=None):
    """tensors: {name: (dtype, shape, bytes)}; with sparse_bytes a file whose data are that long and all zero."""
    size_of = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}
    header, begin, blobs = {"__metadata__": metadata} if metadata else {}, 0, []
    for name, (dtype, shape, blob) in tensors.items():
        length = len(blob) if sparse_bytes is None else size_of[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + length]}
        begin += length
        blobs.append(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse_bytes is None:
            file.write(b"".join(blobs))
        else:
            file.truncate(8 + len(text) + begin)


def floats(tensor):
    return struct.unpack(f"<{len(tensor[2]) // 4}f", tensor[2])


def random_floats(*shape):
    return "F32", list(shape), struct.pack(f"<{math.prod(shape)}f", *(random.gauss(0, 1) for _ in range(math.prod(shape))))


def halves(values):
    return "F16", [len(values)], struct.pack(f"<{len(values)}e", *values)


def export_named(source, output, *words, expect=0):
    """`tmd export` of a model for the original code, and its tensors."""
    printed = tmd("export", source, "--for", "wan", "--output", output, *words, expect=expect)
    return printed if expect else read_safetensors(output / "diffusion_pytorch_model.safetensors")[1]


def forward_inputs(path, batch=2):
    random.seed(1)
    tensors = {"latents": random_floats(batch, 16, 2, 4, 6), "text": random_floats(batch, 16, 384),
               "timestep": ("F32", [batch], struct.pack(f"<{batch}f", *[937.25, 3.0][:batch]))}
    tensors["output_gradient"] = random_floats(batch, 16, 2, 4, 6)
    write_safetensors(path, tensors)
    return tensors


def largest_difference(a, b):
    return max(abs(x - y) for x, y in zip(floats(a), floats(b)))


def tmd_student():
    with Workplace() as place:
        run, out = place.path / "run", place.path / "out"
        place.run(2, run, *STAGES, "--run.stages=teacher,stage1,stage2", "--stage2.ema=0.9")
        tmd("export", run, "--output", out, "--dtype", "f32", ranks=2)
        names = {path.name for path in out.iterdir()}
        check(names == {"student.safetensors", "tmd_wan.py", "embeddings.h5", "README.md"}, f"{names}")
        metadata, tensors = read_safetensors(out / "student.safetensors")
        check(metadata["tmd.method"] == "tmd" and "tmd.fusion.gate" in tensors, f"{metadata}")
        # The same ranks and bits make the same samples from the run and from nothing but the export.
        prompts = out / "embeddings.h5"
        tmd("sample", "--weights", run, "--prompts", prompts, "--count", 3, "--output", place.path / "a", ranks=2)
        tmd("sample", "--weights", out, "--count", 3, "--output", place.path / "b", ranks=2)
        check(data_hash(place.path / "a/samples.h5") == data_hash(place.path / "b/samples.h5"), "the export samples otherwise")
        tmd("export", run, "--average", "--output", place.path / "average", "--dtype", "f32", ranks=2)
        averaged = read_safetensors(place.path / "average/student.safetensors")[1]
        check(averaged["head.head.weight"] != tensors["head.head.weight"], "--average exports the student itself")
        tmd("sample", "--weights", out, "--dtype", "bf16", "--count", 1, "--write-noise", place.path / "noise.safetensors",
            "--output", place.path / "c")
        noise = read_safetensors(place.path / "noise.safetensors")[1]
        check(noise["inner_noise"][1] == [2, 1, *noise["noise"][1][1:]], f"{noise['inner_noise'][1]}")
        renewing = place.path / "renewing"
        place.run(2, renewing, *DMD2V, "--method.outer_sampler=renoise", "--method.outer_steps=3")
        tmd("sample", "--weights", renewing, "--count", 1, "--write-noise", place.path / "renewed.safetensors",
            "--output", place.path / "renewed", ranks=2)
        renewed = read_safetensors(place.path / "renewed.safetensors")[1]
        check(set(renewed) == {"noise", "renewed_noise"}, f"{set(renewed)}")
        check(renewed["renewed_noise"][1] == [2, *renewed["noise"][1]], f"{renewed['renewed_noise'][1]}")
        output = tmd("inspect", out)
        for word in ("TMD student", "complete: every tensor", "original naming"):
            check(word in output, f"'{word}' is not in\n{output}")
        check("flow head" in tmd("export", run, "--for", "wan", "--output", place.path / "w", ranks=2, expect=64), "no reason")
        check("exists already" in tmd("export", run, "--output", out, ranks=2, expect=64), "no reason")
        # Refused from the headers and the options, before anything is loaded, made or sampled.
        other = place.path / "never"
        check("flow head" in tmd("export", out, "--for", "diffusers", "--output", other, expect=64), "no reason")
        check("is how a teacher is sampled" in tmd("sample", "--weights", out, "--sampler.steps=3", "--output", other, expect=64),
              "a teacher's option is ignored")
        check("is how a teacher is sampled" in
              tmd("sample", "--weights", run, "--sampler.cfg", "2", "--output", other, ranks=2, expect=64), "ignored for a run")
        tmd("sample", "--weights", out, "--sampler.batch=2", "--count", 3, "--output", place.path / "b2", ranks=2)
        check(data_hash(place.path / "b2/samples.h5") == data_hash(place.path / "b/samples.h5"), "the batch changes samples")
        check("for latents of wan2.1-vae" in tmd("sample", "--weights", out, "--vae", "x", "--output", other, expect=64), "--vae")
        check("not between 1 and 100" in tmd("sample", "--weights", out, "--steps", 101, "--output", other, expect=64), "steps")
        for verb in (("export", run), ("sample", "--weights", run)):
            check("leave one of the two out" in tmd(*verb, "--teacher", "--average", "--output", other, ranks=2, expect=64),
                  "the teacher's weights would be called an average")
        check("no folder" in tmd("sample", "--weights", out, "--write-noise", place.path / "none/noise.safetensors",
                                 "--output", other, expect=74), "no reason")
        check("unexpected word" in tmd("sample", "more", "--weights", out, "--output", other, expect=64), "no reason")
        check(not other.exists(), "a refused command leaves a folder behind")
        check("flow head" not in (place.path / "average/README.md").read_text().split("\n")[0], "heading")
        (out / "student.safetensors").write_bytes((out / "student.safetensors").read_bytes()[:-4])
        check("truncated" in tmd("sample", "--weights", out, "--output", place.path / "d", expect=65), "damage is not named")


def stock_wan():
    with Workplace() as place:
        run = place.path / "run"
        place.run(2, run, *DMD2V)
        folders = {target: place.path / target for target in ("wan", "diffusers", "comfyui")}
        for target, folder in folders.items():
            tmd("export", "--for", target, run, "--dtype", "f32", "--output", folder, ranks=2)
        original = read_safetensors(folders["wan"] / "diffusion_pytorch_model.safetensors")[1]
        config = json.loads((folders["wan"] / "config.json").read_text())
        check(config["_class_name"] == "WanModel" and config["text_dim"] == 384, f"{config}")
        scheduler = json.loads((folders["diffusers"] / "scheduler/scheduler_config.json").read_text())
        check(scheduler["_class_name"] == "FlowMatchEulerDiscreteScheduler" and scheduler["shift_terminal"] > 0, f"{scheduler}")
        check(read_safetensors(folders["comfyui"] / "comfyui.safetensors")[1] == original, "comfyui has other tensors")
        # original -> ours -> diffusers -> ours -> original
        tmd("export", folders["wan"], "--for", "diffusers", "--output", place.path / "d2")
        tmd("export", place.path / "d2/transformer", "--for", "wan", "--output", place.path / "w2", ranks=3)
        for folder in ("d2", "w2"):
            check((place.path / folder / "embeddings.h5").exists(), "the prompts got lost on the way")
        check(read_safetensors(place.path / "w2/diffusion_pytorch_model.safetensors")[1] == original, "a round trip changes bits")
        metadata = read_safetensors(place.path / "w2/diffusion_pytorch_model.safetensors")[0]
        check(json.loads(metadata["tmd.sampler"])["outer_steps"] == 4, "the step schedule got lost on the way")
        hashes = set()
        for folder in (folders["wan"], folders["diffusers"], folders["comfyui"], place.path / "w2"):
            tmd("sample", "--weights", folder, "--count", 2, "--output", place.path / f"s_{folder.name}")
            hashes.add(data_hash(place.path / f"s_{folder.name}/samples.h5"))
        check(len(hashes) == 1, "layouts sample differently")
        tmd("export", run, "--teacher", "--for", "diffusers", "--output", place.path / "teacher", ranks=2)
        check(read_safetensors(place.path / "teacher/transformer/diffusion_pytorch_model.safetensors")[1]
              ["proj_out.weight"][0] == "BF16", "the default type of a run's export is bf16")
        # The teacher of this run is sampled by Euler steps, and so it is exported.
        scheduler = json.loads((place.path / "teacher/scheduler/scheduler_config.json").read_text())
        check(scheduler["_class_name"] == "FlowMatchEulerDiscreteScheduler", f"{scheduler}")
        check("FlowMatchEulerDiscreteScheduler" in (place.path / "teacher/README.md").read_text(), "README.md")
        tmd("export", run, "--teacher", "--for", "diffusers", "--output", place.path / "f16", "--dtype", "f16", ranks=2)
        tmd("sample", "--weights", place.path / "teacher", "--sampler.steps=2", "--count", 1, "--output", place.path / "t")
        # Such a folder is also what training starts from; its sizes need not be said.
        start = place.path / "start.ini"
        start.write_text("[train]\nglobal_batch = 2\n[method]\ndiscriminator_hidden = 16\n[preview]\nevery = -1\n")
        words = ["--config", start, "--run", place.path / "next", f"--data.files={CLIPS}", "--run.stages=stage1",
                 "--stage1.iterations=1", f"--model.weights={place.path / 'teacher'}"]
        tmd("train", *words)
        # Heads and epsilon cannot be seen in the shapes. Here all sizes are set, so nothing is taken from the weights.
        sizes = {"heads": 2, "head_dim": 12, "ffn": 48, "layers": 4, "channels": 16, "text_dim": 384, "text_length": 16,
                 "freq_dim": 256, "epsilon": 1e-6}
        for wrong, changed in (("heads", {"heads": 3, "head_dim": 8}), ("epsilon", {"epsilon": 1e-5})):
            options = [f"--model.{name}={value}" for name, value in (sizes | changed).items()]
            output = tmd("train", *words[:3], place.path / f"other {wrong}", *words[4:], *options, expect=78)
            check(f"model.{wrong} = " in output, output)
        check("model.ffn = 50" in tmd("train", *words[:3], place.path / "other", *words[4:], "--model.ffn=50", expect=78), "no reason")


def forward():
    with Workplace() as place:
        run, model, inputs = place.path / "run", place.path / "model", place.path / "in.safetensors"
        place.run(1, run, *DMD2V)
        tmd("export", run, "--for", "diffusers", "--dtype", "f32", "--output", model)
        forward_inputs(inputs)
        outputs = []
        for ranks in (1, 2, 3):
            out, report = place.path / f"out{ranks}.safetensors", place.path / f"report{ranks}.json"
            tmd("forward", "--weights", model, "--inputs", inputs, "--output", out, "--blocks", "0,3", "--gradients",
                "--report", report, ranks=ranks)
            outputs.append(read_safetensors(out)[1])
            numbers = json.loads(report.read_text())
            check(numbers["ranks"] == ranks and numbers["bytes_read"] <= 1.5 * numbers["file_bytes"], f"{numbers}")
        check({"output", "block.0", "block.3", "grad.latents", "grad.text", "grad.blocks.0.attn1.to_q.weight"} <=
              set(outputs[0]), f"{sorted(outputs[0])}")
        for other in outputs[1:]:
            for name, tensor in outputs[0].items():
                scale = max(abs(x) for x in floats(tensor)) + 1e-3
                check(largest_difference(tensor, other[name]) <= 1e-5 * scale, f"{name} depends on the ranks")
        check(max(abs(x) for x in floats(outputs[0]["output"])) > 1e-3, "the output is zero: nothing was compared")
        words = ["--weights", model, "--inputs", inputs, "--output", place.path / "x.safetensors"]
        tmd("forward", *words, "--dtype", "bf16-diffusers")
        check("numbered 0 to 3" in tmd("forward", *words, "--blocks", "4", expect=64), "no reason")
        check("no such file" in tmd("forward", "--weights", model, "--inputs", place.path / "none.safetensors", "--output",
                                    place.path / "x.safetensors", expect=65), "no reason")
        check("no folder" in tmd("forward", *words[:-1], place.path / "none/x.safetensors", expect=74), "no reason")
        check("f64, f32, bf16" in tmd("forward", *words, "--dtype", "fp8", expect=64), "no reason")
        write_safetensors(inputs, {"latents": random_floats(1, 16, 2, 4, 6), "timestep": random_floats(1)})
        check("no tensor \"text\"" in tmd("forward", *words, expect=65), "no reason")
        write_safetensors(inputs, {"latents": random_floats(1, 16, 2, 5, 6), "timestep": random_floats(1),
                                   "text": random_floats(1, 16, 384)})
        check("even height and width" in tmd("forward", *words, expect=65), "no reason")


def published():
    """Weights that say nothing of tmd, in the layout of the original code: sampled as a teacher."""
    with Workplace() as place:
        run, exported, model = place.path / "run", place.path / "exported", place.path / "model"
        place.run(1, run, *DMD2V)
        tmd("export", run, "--teacher", "--for", "wan", "--dtype", "f32", "--output", exported)
        model.mkdir()
        tensors = read_safetensors(exported / "diffusion_pytorch_model.safetensors")[1]
        write_safetensors(model / "diffusion_pytorch_model.safetensors", tensors)
        (model / "config.json").write_text((exported / "config.json").read_text())
        out = place.path / "out"
        words = ["sample", "--weights", model, "--prompts", exported / "embeddings.h5", "--sampler.steps=2", "--count", 1]
        output = tmd(*words, "--frames", 9, "--height", 32, "--width", 48, "--output", out, ranks=2)
        check("linear RGB (no decoder weights given)" in output, output)
        check((out / "samples.webp").exists(), "no picture")
        output = tmd("inspect", out / "samples.h5")
        check("latents 16 x 3 x 4 x 6 (codec wan2.1-vae)" in output, output)
        small = ("--frames", 5, "--height", 32, "--width", 32)
        hashes = {}
        for solver in ("", "unipc", "euler"):  # three steps: with fewer the two are one
            chosen = [f"--sampler.solver={solver}"] if solver else []
            tmd(*words, *small, "--steps", 3, *chosen, "--output", place.path / f"solver {solver}")
            hashes[solver] = data_hash(place.path / f"solver {solver}/samples.h5")
        check(hashes[""] == hashes["unipc"] != hashes["euler"], "published models are sampled by UniPC unless told otherwise")
        never = place.path / "never"
        for name in ("frames", "height", "width"):
            check(f"--{name} is -5" in tmd(*words, f"--{name}", -5, "--output", never, expect=64), "no reason")
            check(f"--{name} is 0" in tmd(*words, f"--{name}", 0, "--output", never, expect=64), "no reason")
        check("4 k + 1" in tmd(*words, "--frames", 80, "--output", never, expect=64), "no reason")
        for decoder in ("--vae", "--taew"):
            check("no such file" in tmd(*words, *small, decoder, place.path / "none", "--output", never, expect=65), "no reason")
        check(not never.exists(), "a refused command leaves a folder behind")
        check("multiples of 16" in tmd(*words, "--frames", 8, "--output", out, expect=64), "no reason")
        check("brings no prompts" in tmd("sample", "--weights", model, "--frames", 5, "--output", out, expect=64), "no reason")
        check("--teacher" in tmd(*words, "--teacher", "--output", out, expect=64), "no reason")
        check("unknown option sampler.stepz" in tmd(*words, "--sampler.stepz=2", "--frames", 5, "--output", out, expect=78),
              "no reason")
        tmd("export", model, "--for", "diffusers", "--output", place.path / "d")
        names = {str(path.relative_to(place.path / "d")) for path in (place.path / "d").rglob("*") if path.is_file()}
        check(names == {"README.md", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"}, f"{names}")
        check("scripts/embed_prompts.py" in (place.path / "d/README.md").read_text(), "the README names prompts that are not there")
        # A patch embedding as a matrix is taken, and inspect says so.
        flat = tensors["patch_embedding.weight"]
        changed = tensors | {"patch_embedding.weight": ("F32", [24, 64], flat[2])}
        write_safetensors(model / "diffusion_pytorch_model.safetensors", changed)
        check("complete: every tensor" in tmd("inspect", model), "inspect refuses what is loaded")
        # One tensor missing, one misshapen, one too many: all named at once, in the file's spelling.
        del tensors["blocks.1.ffn.0.bias"]
        tensors["blocks.0.norm3.bias"] = ("F32", [2, 12], tensors["blocks.0.norm3.bias"][2])
        tensors["blocks.0.extra"] = ("F32", [1], b"1234")
        write_safetensors(model / "diffusion_pytorch_model.safetensors", tensors)
        output = tmd(*words, "--frames", 5, "--height", 32, "--width", 32, "--output", out, ranks=2, expect=65)
        for word in ("blocks.1.ffn.0.bias is missing", "blocks.0.norm3.bias is [2, 12], not [24]", "blocks.0.extra is not in"):
            check(word in output, f"'{word}' is not in\n{output}")
        check("INCOMPLETE" in tmd("inspect", model), "inspect does not say what is missing")


def element_types():
    """What `tmd export MODEL` makes of them: by default no number changes."""
    with Workplace() as place:
        run, exported, model = place.path / "run", place.path / "exported", place.path / "model.safetensors"
        place.run(1, run, *DMD2V)
        tmd("export", run, "--for", "wan", "--dtype", "f32", "--output", exported)
        tensors = read_safetensors(exported / "diffusion_pytorch_model.safetensors")[1]
        narrow = {name: ("F16", shape, halves(floats((dtype, shape, blob)))[2]) for name, (dtype, shape, blob) in tensors.items()}
        write_safetensors(model, narrow)
        check(export_named(model, place.path / "f16") == narrow, "an export in F16 changes bits")
        # One wide tensor, whose numbers F16 cannot hold: all becomes F32.
        mixed = narrow | {"head.head.bias": tensors["head.head.bias"]}
        write_safetensors(model, mixed)
        out = export_named(model, place.path / "mixed")
        check(all(dtype == "F32" for dtype, _, _ in out.values()), "a mixed file is rounded")
        check(out["head.head.bias"] == tensors["head.head.bias"], "a mixed file is rounded")
        large = ("F32", tensors["head.head.bias"][1], struct.pack("<64f", *[1.0] * 63, 1e5))
        write_safetensors(model, tensors | {"head.head.bias": large})
        output = export_named(model, place.path / "large", "--dtype", "f16", expect=65)
        check("tensor head.head.bias holds 100000" in output and not (place.path / "large").exists(), output)
        check([path for path in place.path.iterdir() if ".tmp-" in path.name] == [], "a temporary folder stays")
        export_named(model, place.path / "bf16", "--dtype", "bf16")
        wide = ("F64", tensors["head.head.bias"][1], struct.pack("<64d", *floats(tensors["head.head.bias"])))
        write_safetensors(model, tensors | {"head.head.bias": wide})
        check("F64" in export_named(model, place.path / "f64", expect=64), "F64 is rounded in silence")
        check(export_named(model, place.path / "f64", "--dtype", "f32") == tensors, "F64 that was F32 does not come back")
        write_safetensors(model, tensors | {"head.head.bias": ("F8_E4M3", [64], bytes(64))}, metadata={"note": "a\x1b[31mb"})
        output = tmd("inspect", model)
        check("element type F8_E4M3" in output and "complete: every" not in output, output)
        check("\x1b" not in output and "note = a" in output, "metadata are printed raw")


def refusals():
    with Workplace() as place:
        out = place.path / "out"
        check("name one run or model" in tmd("export", "--output", out, expect=64), "no reason")
        check("no such file" in tmd("export", place.path / "absent", "--output", out, expect=65), "no reason")
        (place.path / "model.pth").write_text("")
        check("pickle" in tmd("sample", "--weights", place.path / "model.pth", "--output", out, expect=65), "no reason")
        (place.path / "empty").mkdir()
        check("no .safetensors file" in tmd("export", place.path / "empty", "--output", out, expect=65), "no reason")
        absent = place.path / "absent.safetensors"
        for words in (["vae", "decode", "--weights", absent, "--inputs", absent],
                      ["forward", "--weights", absent, "--inputs", absent]):
            check("no such file" in tmd(*words, "--output", out, expect=65), "no reason")
        several = place.path / "several"
        several.mkdir()
        for name in ("a", "b"):
            write_safetensors(several / f"{name}.safetensors", {"x": random_floats(2)})
        check("a.safetensors, b.safetensors" in tmd("inspect", several, expect=65), "inspect does not say what to name")
        vae = place.path / "vae"
        vae.mkdir()
        write_safetensors(vae / "m.safetensors", {"conv2.weight": random_floats(2)})
        (vae / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"conv2.weight": "m.safetensors"}}))
        check("a VAE behind an index" in tmd("inspect", vae), "no reason")
        huge_models(place, out)


def huge_models(place, out):
    """In sparse files: refused by their headers alone."""
    folder = place.path / "14B"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", {name: ("F32", shape, b"") for name, shape in wan_14b()}, sparse_bytes=True)
    check("Wan2.1 T2V 14B" in tmd("inspect", folder), "inspect does not know 14B")
    # 4 TB in bfloat16, 8 in float32: more than a host has, but a thousand of them do.
    wide = place.path / "huge"
    wide.mkdir()
    write_safetensors(wide / "model.safetensors", {name: ("BF16", shape, b"") for name, shape in
                                                   wan_14b(width=1024, ffn=1_000_000, blocks=1000)}, sparse_bytes=True)
    forward_inputs(place.path / "in.safetensors")
    words = ["--weights", wide, "--inputs", place.path / "in.safetensors", "--output", out]
    for dtype in ("f64", "f32"):
        output = tmd("forward", *words, "--dtype", dtype, expect=2)
        for word in ("G parameters", "GB on this host", "hosts like this"):
            check(word in output, f"'{word}' is not in\n{output}")
        named = set(re.findall(r"--dtype ([\w-]+)", output))
        check(named <= {"f64", "f32", "bf16", "bf16-diffusers"}, f"{named} are no element types")
    # What is wrong with the command is said before what is wrong with the host.
    check("numbered 0 to 999" in tmd("forward", *words, "--blocks", "1000", expect=64), "no reason")
    check("--for tmd is for students" in tmd("export", wide, "--output", out, expect=64), "no reason")
    check("4 k + 1" in tmd("sample", "--weights", wide, "--frames", 80, "--output", out, expect=64), "no reason")
    check("on this host" in tmd("export", wide, "--for", "wan", "--output", out, expect=2), "no reason")
    check(not out.exists(), "a refused command leaves a folder behind")


def wan_14b(width=5120, ffn=13824, blocks=40):
    text = 4096
    linear = lambda name, out, into: [(f"{name}.weight", [out, into]), (f"{name}.bias", [out])]
    tensors = [("patch_embedding.weight", [width, 16, 1, 2, 2]), ("patch_embedding.bias", [width]),
               *linear("text_embedding.0", width, text), *linear("text_embedding.2", width, width),
               *linear("time_embedding.0", width, 256), *linear("time_embedding.2", width, width),
               *linear("time_projection.1", 6 * width, width), ("head.modulation", [1, 2, width]),
               *linear("head.head", 64, width)]
    for i in range(blocks):
        tensors += [(f"blocks.{i}.modulation", [1, 6, width]), (f"blocks.{i}.norm3.weight", [width]),
                    (f"blocks.{i}.norm3.bias", [width]), *linear(f"blocks.{i}.ffn.0", ffn, width),
                    *linear(f"blocks.{i}.ffn.2", width, ffn)]
        for attention in ("self_attn", "cross_attn"):
            name = f"blocks.{i}.{attention}"
            tensors += [(f"{name}.norm_q.weight", [width]), (f"{name}.norm_k.weight", [width])]
            for letter in "qkvo":
                tensors += linear(f"{name}.{letter}", width, width)
    return tensors


if __name__ == "__main__":
    sys.exit(main({f.__name__: f for f in (tmd_student, stock_wan, forward, published, element_types, refusals)}, sample=3))
