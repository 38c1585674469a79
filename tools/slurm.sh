#!/bin/bash
# Trains on a SLURM cluster, one process per GPU. When the time limit is reached, the job is requeued and resumes.
#
#   sbatch tools/slurm.sh RUN_DIR --config coco_detr_r50.yaml [SETTINGS ...]
#
# Submit it from the folder of the checkout. Copy it and adapt these lines to your cluster; docs/several_processes.md
# explains each.

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

# Since SLURM 22.05 srun does not inherit this from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

code=0
srun --kill-on-bad-exit=1 --wait=0 "${PYTHON:-.venv/bin/python}" tools/train.py "${words[@]}" || code=$?

# 143: the run was stopped by SIGTERM and has saved a checkpoint. A cancelled job is no longer RUNNING.
if [ "$code" -eq 143 ] && [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
