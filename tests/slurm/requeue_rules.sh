#!/usr/bin/env bash
# What slurm/train.sbatch does with every way in which a run can end, told by stand-ins for srun, scontrol and squeue:
# tests/slurm/requeue_rules.sh runs anywhere.
# shellcheck disable=SC2016,SC2317  # what the stand-ins and expect evaluate
set -u
cd "$(dirname "$0")/../.." || exit
place=$(mktemp -d "${TMPDIR:-/tmp}/tmd_rules_XXXXXX")
trap 'rm -rf "$place"' EXIT
mkdir "$place/bin"
failures=0

# srun carries out the test's $RANKS; scontrol notes a requeue and ends the job's shell, as Slurm does.
cat >"$place/bin/srun" <<'FAKE'
#!/usr/bin/env bash
printf '%s\n' "$@" >"$PLACE/srun"
env | grep -E '^(TMD|SRUN|OMPI)_' >"$PLACE/environment"
checkpoint() { mkdir -p "$(printf '%s/checkpoints/step_%08d' "$PLACE/run" "$1")"; }
verdict() { printf '{\n  "exit_code": %s,\n  "reason": "%s",\n  "text": "rank 1, exit"\n}\n' "$1" "$2" >"$PLACE/run/verdict.json"; }
eval "$RANKS"
FAKE
cat >"$place/bin/scontrol" <<'FAKE'
#!/usr/bin/env bash
case $1 in
  requeue) echo "$*" >>"$PLACE/requeued"; [ -z "${NO_REQUEUE:-}" ] || exit 1; (/bin/sleep 0.1; kill "$PPID") & ;;
  *) echo "JobId=7 JobName=tmd ${STATE-JobState=RUNNING Reason=None} Restarts=0" ;;
esac
FAKE
cat >"$place/bin/squeue" <<'FAKE'
#!/usr/bin/env bash
echo "${END_TIME:-2031-02-03T04:05:06}"
FAKE
cat >"$place/bin/sleep" <<'FAKE'
#!/usr/bin/env bash
exec /bin/sleep 0.2
FAKE
chmod +x "$place/bin"/*

# start RANKS [NAME=VALUE ...] [-- WORDS]: one start of the job; $code is what its shell ended with.
start() {
  local ranks=$1 settings=(); shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do settings+=("$1"); shift; done
  if [ $# -gt 0 ]; then shift; else set -- --config tiny.ini --run "$place/run"; fi
  rm -f "$place/requeued"
  settings=(-u SLURM_RESTART_COUNT PATH="$place/bin:$PATH" PLACE="$place" RANKS="$ranks" SLURM_JOB_ID=7
            SLURM_SUBMIT_DIR="$place" "${settings[@]}")
  { env "${settings[@]}" bash slurm/train.sbatch "$@" >"$place/output" 2>&1; code=$?; } 2>/dev/null  # no word about its end
}
new_run() { rm -rf "$place/run"; mkdir -p "$place/run"; [ $# = 0 ] || mkdir -p "$place/run/checkpoints/$1"; }
is_requeued() { [ -e "$place/requeued" ]; }
expect() { # TEXT CONDITION...
  local text=$1; shift
  if "$@"; then return; fi
  failures=$((failures + 1))
  printf 'FAILED  %s: %s (code %s)\n%s\n' "$case" "$text" "$code" "$(cat "$place/output")"
}
requeued() { expect "is queued again" is_requeued; }
ended() { expect "ends with $1" [ "$code" = "$1" ]; expect "is not queued again" eval '! is_requeued'; }

case="finished"
new_run; start 'checkpoint 20; exit 0'; ended 0

case="saved"
new_run; start 'checkpoint 5; verdict 75 signal; exit 75'; requeued
start 'checkpoint 9; exit 75' SLURM_RESTART_COUNT=1; requeued

case="saved, and one of the other ranks was killed meanwhile"
new_run; start 'checkpoint 5; verdict 75 wall_limit; exit 137'; requeued
expect "the reason is logged" grep -q "verdict 75 (wall_limit)" "$place/output"

case="asked to stop before the first iteration"
new_run step_00000005
for restart in 0 1 2 3; do start 'verdict 75 signal; exit 75' SLURM_RESTART_COUNT=$restart; requeued; done

case="a time limit that allows no iteration ends"
for restart in 4 5 6 7 8 9; do start 'exit 75' SLURM_RESTART_COUNT=$restart; requeued; done
start 'exit 75' SLURM_RESTART_COUNT=10; ended 75

case="a peer was lost after a checkpoint"
new_run; start 'checkpoint 5; verdict 76 peer_lost; exit 137'; requeued
start 'checkpoint 6; exit 76' SLURM_RESTART_COUNT=1; requeued

case="crash loop before the first checkpoint"
for restart in 0 1; do new_run; start 'exit 137' SLURM_RESTART_COUNT=$restart; requeued; done
new_run; start 'exit 137' SLURM_RESTART_COUNT=2; ended 137

case="crash loop after a checkpoint"
new_run step_00000010
for restart in 4 5; do start 'exit 139' SLURM_RESTART_COUNT=$restart; requeued; done
start 'verdict 76 peer_lost; exit 137' SLURM_RESTART_COUNT=6; ended 76
expect "the reason is logged" grep -q "3 starts in a row" "$place/output"

case="progress, and another job, begin the count anew"
new_run step_00000010
for restart in 1 2; do start 'exit 139' SLURM_RESTART_COUNT=$restart; requeued; done
start 'checkpoint 11; exit 139' SLURM_RESTART_COUNT=3; requeued
start 'exit 139' SLURM_RESTART_COUNT=4; requeued
start 'exit 139' SLURM_RESTART_COUNT=5; requeued
start 'exit 139' SLURM_JOB_ID=8; requeued

case="starts that ended with their host are counted"
new_run step_00000010
start 'kill -9 $PPID' SLURM_RESTART_COUNT=0
start 'kill -9 $PPID' SLURM_RESTART_COUNT=1
start 'exit 137' SLURM_RESTART_COUNT=2; ended 137

case="no patience"
new_run step_00000010; start 'exit 137' TMD_MAX_STALLS=0; ended 137
start 'checkpoint 11; exit 137' TMD_MAX_STALLS=0; requeued

case="the launcher lost a host"
new_run; start 'checkpoint 3; exit 205' LAUNCH="srun -v"; requeued

case="the limit of restarts"
new_run; start 'checkpoint 5; exit 75' SLURM_RESTART_COUNT=2 TMD_MAX_REQUEUES=3; requeued
start 'checkpoint 6; exit 75' SLURM_RESTART_COUNT=3 TMD_MAX_REQUEUES=3; ended 75
expect "the reason is logged" grep -q "TMD_MAX_REQUEUES=3" "$place/output"

case="real failures"
for final in 1 2 3 64 65 70 74 78 127; do new_run; start "checkpoint 5; exit $final"; ended $final; done

case="the verdict of an earlier start does not count"
new_run; echo '{"exit_code": 75}' >"$place/run/verdict.json"; start 'exit 1'; ended 1

case="who cancelled the job has decided"
for state in CANCELLED COMPLETING PENDING; do
  new_run; start 'checkpoint 5; exit 75' STATE="JobState=$state Reason=None"; ended 75
done
start 'checkpoint 9; exit 75' STATE=; ended 75

case="the time was over too early"
new_run; start 'checkpoint 5; exit 75' STATE="JobState=COMPLETING Reason=TimeLimit"; requeued

case="Slurm refuses"
new_run; start 'checkpoint 5; exit 75' NO_REQUEUE=yes; expect "ends with 75" [ "$code" = 75 ]
expect "is tried again before that" [ "$(wc -l <"$place/requeued")" = 4 ]

case="what the ranks are started with"
new_run; start 'exit 0' SLURM_CPUS_PER_TASK=4 -- --run "$place/run" --data.files "two words"; ended 0
expect "words arrive as they are" grep -qx "two words" "$place/srun"
expect "by default through srun and pmix" [ "$(head -n 1 "$place/srun")" = --mpi=pmix ]
expect "the end of the job" grep -qx "TMD_END_TIME=$(date --date=2031-02-03T04:05:06 +%s)" "$place/environment"
expect "cores of a rank" grep -qx SRUN_CPUS_PER_TASK=4 "$place/environment"
start 'exit 0' END_TIME=NONE TMD_END_TIME=1; ended 0
expect "no limit, no end" eval '! grep -q TMD_END_TIME "$place/environment"'

case="another way to name the run"
new_run; start 'checkpoint 4; exit 75' SLURM_RESTART_COUNT=20 -- "--run=$place/run"; requeued
start 'exit 64' -- --config tiny.ini; ended 64

case="signals for the batch shell go to the launcher"
new_run; start 'trap "touch $PLACE/told" USR1; kill -TERM $PPID; for i in {1..100}; do /bin/sleep 0.02; [ -e "$PLACE/told" ] && break; done; /bin/sleep 0.1; checkpoint 2; exit 75'
requeued; expect "USR1 arrived" [ -e "$place/told" ]

case="the site's file"
mkdir "$place/slurm"; echo 'export LAUNCH="srun --site" OMPI_MCA_mpi_yield_when_idle=0' >"$place/slurm/site.env"
new_run; start 'exit 0'; ended 0
expect "is read" [ "$(head -n 1 "$place/srun")" = --site ]
expect "wins over defaults" grep -qx OMPI_MCA_mpi_yield_when_idle=0 "$place/environment"
echo 'LAUNCH="srun --other"' >"$place/other.env"
start 'exit 0' TMD_SITE="$place/other.env"; expect "TMD_SITE names another one" [ "$(head -n 1 "$place/srun")" = --other ]
start 'exit 0' TMD_SITE="$place/none.env"; ended 78
start 'exit 0' TMD_SITE=slurm/site.example.env; ended 0

case="outside of a job"
start 'exit 0' SLURM_JOB_ID=; ended 64

[ $failures = 0 ] && echo "all requeue rules hold"
exit $((failures > 0))
