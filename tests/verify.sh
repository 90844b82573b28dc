#!/usr/bin/env bash
# Everything that the project promises, however slow: `make verify`. Each step prints its command; the first that fails ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$PWD/.venv/bin/python
export TF_CPP_MIN_LOG_LEVEL=3

step() { printf '\n=== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
on() { printf '$ KERAS_BACKEND=%s %s\n' "$1" "${*:2}"; KERAS_BACKEND=$1 "${@:2}"; }

step "1, 9: make demo and make test on a clean clone without a virtual environment"
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
run git clone --quiet . "$clone/project"
# The golden data that lies beside a checkout, where there is any.
if [ -d ../shared ]; then ln -s "$(cd ../shared && pwd)" "$clone/shared"; fi
run make -C "$clone/project" demo
start=$SECONDS
run make -C "$clone/project" test
echo "make test took $(( (SECONDS - start) / 60 )) min $(( (SECONDS - start) % 60 )) s, the installation of its packages included"

step "2: golden parity, worst figure per backend"
for backend in tensorflow jax torch; do on $backend "$PYTHON" -m tests.parity_report; done
run "$PYTHON" -m tests.conditioning

step "3: parameters and multiply-adds of T, S, B"
on torch "$PYTHON" -m pytest -q tests/models -k published_sizes

step "4: pth -> ours -> pth, bit for bit, T"
on torch "$PYTHON" -m pytest -q tests/weights_conversion -m slow

step "5: hostile and broken files"
on torch "$PYTHON" -m pytest -q tests/weights tests/models/video_focalnet

step "hostile files: 2,000 mutations of each weight format"
run "$PYTHON" -m tests.weights.fuzz

step "properties, over examples that differ from run to run"
run "$PYTHON" -m pytest -q tests -m hypothesis --hypothesis-profile explore

step "7: model.fit overfits eight random clips"
for backend in tensorflow jax torch; do on $backend "$PYTHON" -m pytest -q tests/models -k overfits; done

step "8: bad arguments"
on torch "$PYTHON" -m pytest -q tests -k "bad_arguments or refused or unknown or labels"

step "speed of inference beside the peers"
run "$PYTHON" -m benchmarks.inference --batches 1
run "$PYTHON" -m benchmarks.inference --sizes tiny --batches 4 --name inference-4-clips
run "$PYTHON" -m benchmarks.inference --sizes base --batches 4 --rounds 3 --name inference-base-4-clips

step "training steps and their memory"
run "$PYTHON" -m benchmarks.training
run "$PYTHON" -m benchmarks.memory
run "$PYTHON" -m benchmarks.memory --sizes base --variants none,all --calls 1 --name memory-base
run "$PYTHON" -m benchmarks.memory --sizes base --batches 1 --frames 16 --variants none,all --calls 1 --name memory-base-16-frames
run "$PYTHON" -m benchmarks.memory --in-use --name memory-in-use

step "SIFA: its operator beside grid_sample and unfold; whole models and training steps beside our PyTorch rendering"
ours="reference eager,ours tensorflow graph,ours tensorflow xla,ours jax,ours torch"
for backend in tensorflow jax torch; do on $backend "$PYTHON" -m benchmarks.inter_frame_attention; done
run "$PYTHON" -m benchmarks.inference --sizes sifa50,sifa-s,sifa-b --subjects "$ours" --batches 1 --name inference-sifa
run "$PYTHON" -m benchmarks.training --sizes sifa50,sifa-s --subjects "$ours" --batches 1 --name training-sifa
run "$PYTHON" -m benchmarks.memory --sizes sifa50,sifa-s --subjects "$ours" --batches 1 --in-use --name memory-in-use-sifa

step "as fast as the version before the house was made fit for many architectures, within 3 %"
run "$PYTHON" -m benchmarks.against 0a30683 --within 0.03

step "the documentation site: a page with an example for each public name, no warning, no dead link, nothing fetched"
run make docs

step "every formulation, forced, at golden parity"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/ops tests/layers tests/models/test_parity.py
done

step "videos: every frame that is read, sampling; 4,000 damaged copies of 80 videos, of which each frame is the same however it is asked for; 500 of each of eight containers, for crashes, hangs and what is opened; decoding beside PyAV and decord2"
run "$PYTHON" -m pytest -q tests/data -m "backend_free"
run "$PYTHON" -m tests.data.fuzz_videos
run "$PYTHON" -m tests.data.fuzz_videos --no-comparison --count 500 --videos "h264 1.mp4" "h264 1.mkv" "vp9 1.webm" "h264 1.ts" \
    "h264 1.avi" "h264 1.flv" "h264 1.mov" "mpeg2 1.mpg"
run "$PYTHON" -m benchmarks.decoding

step "training: golden runs, fine-tuning to 95 %, five kills, distribution"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q -s tests/training tests/cli/test_train.py tests/data/test_image_layers.py -m "not backend_free"
done

step "export: T, S and B in every format; files beside the backends; the example where there is no Keras"
on tensorflow "$PYTHON" -m pytest -q -s tests/exporting tests/cli/test_export.py tests/examples/test_edge.py -m "slow or not slow"
for backend in jax torch; do on $backend "$PYTHON" -m pytest -q tests/exporting tests/models/test_low_precision.py -m "slow or not slow"; done
run "$PYTHON" -m benchmarks.export

step "rooms, names and registry; the README; files of version 0.1.0; two threads; weights of a hub; what a reader costs"
run "$PYTHON" -m pytest -q tests/test_house.py tests/test_readme.py tests/models/test_registry.py -m "backend_free"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/models/test_files_of_0_1_0.py tests/exporting/test_threads.py \
        tests/ops/autodiff tests/weights/test_hub.py tests/weights/test_loading.py tests/layers/test_keras_layer_checks.py
done
run "$PYTHON" -m pytest -q tests/data/test_video_reader.py tests/data/test_video_reader_cost.py -m "slow or not slow"

step "SIFA: operator, blocks and models at golden parity; full size, and its checkpoints there and back; image weights"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/models/sifa tests/weights_conversion/test_torch_sifa.py -m "slow or not slow"
done

step "Vita-CLIP: golden parity, texts, weights there and back at full size, training, export, names on the command line; a clip and a step beside others"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/models/vita_clip tests/exporting/test_vita_clip.py tests/training/test_vita_clip.py \
        tests/weights_conversion/test_torch_reference_vita_clip.py tests/cli/test_classes.py -m "slow or not slow"
done
run "$PYTHON" -m benchmarks.inference --sizes vita-clip --subjects "$ours" --batches 1 --name inference-vita-clip
run "$PYTHON" -m benchmarks.prompting --classes 10

step "designs and fusions of Video-FocalNet; maps, Grad-CAM, pictures and videos with answers"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/layers/test_designs.py tests/models/video_focalnet/test_designs.py tests/visualization \
        tests/cli/test_visualize.py -m "slow or not slow"
done
run "$PYTHON" -m benchmarks.design_variants
run "$PYTHON" -m examples.design_study.study --out "$(mktemp -d)/design_study.json"

step "the page: what it offers and refuses on each backend; in Chromium a real clip, its pictures, names, and nothing sent elsewhere"
for backend in tensorflow jax torch; do on $backend "$PYTHON" -m pytest -q tests/app/test_answers.py tests/cli/test_app.py; done
run env CHROMIUM_IS_NEEDED=1 "$PYTHON" -m pytest -q tests/app tests/evaluation/test_html_report.py -m backend_free

step "conformance of every architecture, and the toy"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/models/test_conformance.py tests/models/test_video_focalnet.py tests/toy \
        -m "slow or not slow"
done

step "every entrance of a model: shapes, ranges, errors, interrupts"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/models/test_entrances.py tests/models/test_pixel_range.py \
        tests/models/test_shared_layers.py tests/models/test_random_interrupts.py \
        tests/models/test_cloning.py tests/models/test_reading.py tests/models/test_unregistered.py -m "slow or not slow"
done

step "the README from top to bottom, from the wheel, on each backend"
for backend in tensorflow jax torch; do run "$PYTHON" -m tests.newcomer.run --fresh $backend; done

step "libraries of videos: scored by processes and over Ray, a worker killed, the driver killed five times; speed"
for backend in tensorflow jax torch; do on $backend "$PYTHON" -m pytest -q -s tests/cli/test_score.py -m "slow or not slow"; done
on torch "$PYTHON" -m pytest -q -s tests/evaluation/test_parts.py tests/evaluation/test_library.py \
    tests/evaluation/test_scoring_on_ray.py -m "slow or not slow"
run "$PYTHON" -m benchmarks.scoring

step "what happens when: half an hour of known moves found, in the memory of three minutes and the time of decoding and model"
run "$PYTHON" -m benchmarks.timeline --check
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/evaluation/test_timeline.py tests/cli/test_timeline.py -m "slow or not slow"
done

step "slow tests of files that no other step names"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/cli/test_predict.py tests/cli/test_predict_many.py tests/cli/test_export.py \
        tests/cli/test_doctor.py tests/examples tests/newcomer tests/weights/test_run_folder.py \
        tests/weights/test_model_bounds.py tests/weights/test_opens_nothing.py tests/weights_conversion -m slow
done

step "growth of time and memory"
run "$PYTHON" -m benchmarks.growth

step "evaluation: views, metrics, reports, five kills, a full disk, the page in Chromium"
run "$PYTHON" -m pytest -q tests/evaluation -m "backend_free"
for backend in tensorflow jax torch; do
    on $backend "$PYTHON" -m pytest -q tests/evaluation tests/cli/test_evaluate.py -m "not backend_free"
done

step "6: camera motion"
run "$PYTHON" -m examples.camera_motion.evaluate --check
run "$PYTHON" -m examples.camera_motion.compare
