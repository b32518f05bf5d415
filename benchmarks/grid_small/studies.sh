#!/usr/bin/env bash
# What docs/papers.md measures beside the grid, on dev, one seed at a time. A study that was cut off goes on where it was.
#
#   python benchmarks/subset.py ../shared/data /tmp/small
#   bash benchmarks/grid_small/studies.sh /tmp/small 1              # all studies, seed 1: about two and a half hours on one core
#   bash benchmarks/grid_small/studies.sh /tmp/small 1 bags terms   # two of them
#   python merge.py "compare=[runs/grid-*,runs/study-*]" out=studies   # their tables, all seeds together
set -euo pipefail
data=$1 seed=$2
shift 2

sweep() { python train.py -m hydra/sweeper=grid_small "data=${rows:-ir_sts_small}" "data.root=$data" "seed=$seed" encoder.dtype=bfloat16 sampler=batch_shuffle measure_sources=false "$@"; }
tasks() { sweep experiment=grid/per_task "$@"; }  # the two task experts
study() { sweep experiment=none name=study trainer.max_steps=-1 trainer.max_epochs=1 "$@"; }
joint() { study experts=joint merge=none measure_sources=true "$@"; }

experts() {  # the task experts alone, and joint training for one, two and three epochs
    tasks merge=none measure_sources=true
    joint trainer.max_epochs=1,2,3
}

terms() { for term in mid_nce pearson pro rank_kl; do joint loss@sts_loss=codiemb "sts_loss.${term}_weight=0"; done; }  # CoDiEmb's STS loss, each term off

alone() { joint loss@sts_loss=mid_nce,pearson,pro,rank_kl; }  # each term alone, at weight 1

iterative() {  # each task's model continues from the one before
    study experts=iterative merge=none measure_sources=true
    study experts=iterative merge=soup,slerp,ties,fisher,regmean,self_positioning
}

bags() { study experts=bagging 'experts.bag_shares=[0.6,0.6,0.6],[0.8,1.0],[0.2,0.4,0.6,0.8,1.0]' merge=multislerp,soup; }

granularity() {  # merging by dataset and by cluster
    study experts=per_dataset merge=multislerp,self_positioning
    study experts=per_cluster merge=multislerp,self_positioning
}

clusters_by_loss() { study experts=per_cluster experts.by=loss merge=multislerp; }

baselines() {  # Self Positioning's, over its own grids (soup and TIES: in the grid); a weight is of retrieval, then of STS
    local weights='merge.weights=[1,5],[2,4],[3,3],[4,2],[5,1]'
    tasks merge=slerp merge.weighting=given "$weights"
    tasks merge=fisher merge.batches=own merge.weighting=given "$weights"
    tasks merge=regmean merge.batches=own merge.shrinkage=0,0.1,0.2,0.3,0.4
}

position() {  # direction and norm, around the point that the search found; once more for all seeds together: runs/position-*/merged/*/merge.json
    tasks "out=runs/position-$seed" merge=self_positioning
    python benchmarks/around.py runs/around "runs/position-$seed"/merged/*/merge.json -- data=ir_sts_small "data.root=$data" \
        'evaluation.splits=[dev]' evaluation.max_dev_queries=200 evaluation.max_dev_documents=300
}

mu() { tasks merge=self_positioning merge.mu=0,0.05,0.1,0.3; }

ratios() {  # STS to retrieval from 3:1 to 1:3, in the probe (1:1 is the default)
    tasks merge=self_positioning '+probe.task_shares={sts:3,retrieval:1},{sts:3,retrieval:2},{sts:2,retrieval:3},{sts:1,retrieval:3}'
}

other_probe() {  # experts of five datasets; the merge looks at their rows, or at rows of the four others
    local trained='[squad,wikiqa,snli,stsb,sickr]' other='[medquad,argkp,mrpc,semrel_eng]' models="runs/other-$seed/models" strategy
    study "out=runs/other-$seed" experts=per_task "experts.datasets=$trained" merge=none measure_sources=true
    for strategy in self_positioning 'fisher merge.batches=own' 'regmean merge.batches=own'; do
        # shellcheck disable=SC2086  # two words
        python merge.py -m merge=$strategy "probe.datasets=$trained,$other" "sources=[$models/retrieval,$models/sts]" "base=$models/base" \
            "out=runs/other-merged-$seed" measure_sources=false data=ir_sts_small "data.root=$data" "seed=$seed" loss@sts_loss=codiemb \
            probe.batch_size=16 'evaluation.splits=[dev]' evaluation.max_dev_queries=200 evaluation.max_dev_documents=300
    done
}

resampled() {  # the same ratios of steps in joint training, as long as one epoch; in a task, a dataset counts by max_rows of ir_sts_small
    python - <<'PYTHON' | while read -r shares; do joint sampler=proportional trainer.max_epochs=-1 trainer.max_steps=97 "+sampler.step_shares=$shares"; done
rows = {"retrieval": {"squad": 600, "medquad": 400, "wikiqa": 87, "argkp": 402, "snli": 597, "mrpc": 229}, "sts": {"stsb": 67, "sickr": 348, "semrel_eng": 523}}
for sts, retrieval in (3, 1), (3, 2), (1, 1), (2, 3), (1, 3):
    parts = {"sts": sts, "retrieval": retrieval}
    shares = {n: parts[t] * k / sum(of.values()) for t, of in rows.items() for n, k in of.items()}
    print("{" + ",".join(f"{n}:{share:.4f}" for n, share in shares.items()) + "}")
PYTHON
}

seeds() { study experts=joint experts.seeds=3 merge=soup,delta_guided ensemble=true measure_sources=true; }  # fusion of seeds

chain() {  # three datasets arrive, one by one
    python benchmarks/updates.py runs/chain --seeds "$seed" --old squad medquad snli mrpc stsb sickr --new wikiqa argkp semrel_eng --chain -- \
        data=ir_sts_small "data.root=$data" encoder.max_length=64 encoder.dtype=bfloat16 optimizer.lr=2e-5 loss@sts_loss=codiemb \
        'evaluation.splits=[dev]' evaluation.max_dev_queries=200 evaluation.max_dev_documents=300
}

everything_joint() { rows=ir_sts joint name=everything 'evaluation.splits=[dev,test]'; }  # all train rows instead of a tenth: not among all studies, half an hour on two cores

everything_tasks() { rows=ir_sts study experts=per_task merge=soup,ties,self_positioning name=everything measure_sources=true 'evaluation.splits=[dev,test]'; }

[ $# -gt 0 ] || set -- experts terms alone iterative bags granularity clusters_by_loss baselines mu position ratios other_probe resampled seeds chain
for name; do echo "== $name, seed $seed, $(date +%T)"; "$name"; done
