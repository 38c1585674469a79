#!/bin/bash
# Trains on a cluster with SLURM, one process for each GPU. When its time is over it goes on in a new job by itself.
#
#   sbatch tools/slurm.sh RUN_DIR --config coco_detr_r50.yaml [SETTINGS ...]
#
# Submit it from the project's folder. Copy it and change these lines to what your cluster has; what each is good for
# stands in docs/several_processes.md.

#SBATCH --job-name=detr_lite
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

run_dir=${1:?usage: sbatch tools/slurm.sh RUN_DIR --config FILE [SETTINGS ...]}
shift

words=("$@" --run_dir "$run_dir")
if [ -e "$run_dir/config.yaml" ]; then
    words+=(--resume)
fi

# Since SLURM 22.05 srun does not take this from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

code=0
srun --kill-on-bad-exit=1 --wait=0 "${PYTHON:-.venv/bin/python}" tools/train.py "${words[@]}" || code=$?

# The run was told to stop, and has kept all that it had done. A job that was cancelled is not running any more.
if [ "$code" -eq 143 ] && [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
