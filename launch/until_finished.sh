#!/bin/sh
# Starts a training command again and again until its run is finished.
#
#   sh launch/until_finished.sh runs/demo -- python -m launch.train --config configs/demo.yaml
#   sh launch/until_finished.sh runs/x -- accelerate launch -m launch.train --config configs/webstereo.yaml
#
# After each end it asks `python -m launch.status RUN`: 0 finished and 1 failed end the loop with that code, 75 starts
# the command again. It gives up, with code 75, after $FRUITLESS starts in a row (default 3) that left no newer
# checkpoint. `touch RUN/STOP` (session.stop_file) ends the run and the loop, with 75. A stop of the loop itself, by
# SIGTERM, SIGINT or SIGHUP, is told to the command, waited for, and ends the loop with 75. $PYTHON is the interpreter
# that is asked (default python).

if [ $# -lt 3 ] || [ "$2" != -- ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
run=$1
shift 2

python=${PYTHON:-python}
limit=${FRUITLESS:-3}
fruitless=0
best=-1
asked=

say() { echo "until_finished: $*" >&2; }
stop() {
    asked=yes
    kill -s TERM "$command" 2>/dev/null # not INT, which a shell lets its background commands ignore
}
trap stop TERM INT HUP

while [ -z "$asked" ]; do
    former=$(cat "$run/status.json" 2>/dev/null)
    "$@" &
    command=$!
    # A signal that came when there was nobody to tell. A child in its first moments would lose it.
    [ -z "$asked" ] || { sleep 1 && stop; }
    # A signal ends `wait` early: wait again until the command has really ended.
    while wait "$command"; kill -0 "$command" 2>/dev/null; do :; done
    text=$("$python" -m launch.status "$run")
    code=$?
    echo "$text"
    [ -z "$asked" ] || [ "$code" -ne 2 ] || break # stopped before there was a run
    [ "$code" -eq 75 ] || exit "$code"
    [ -z "$asked" ] || break
    case $(echo "$text" | sed q) in
    *": found the stop file "*)
        if [ "$(cat "$run/status.json")" != "$former" ]; then # not what an earlier start has left
            say "somebody has stopped $run by its stop file; start this again to go on"
            exit 75
        fi
        ;;
    esac
    step=$(echo "$text" | sed -n 's/^Newest checkpoint: .*\/step_0*\([0-9][0-9]*\).*/\1/p' | tail -n 1)
    step=${step:-0}
    if [ "$step" -le "$best" ]; then
        fruitless=$((fruitless + 1))
        if [ "$fruitless" -ge "$limit" ]; then
            say "$fruitless starts in a row have left no checkpoint of $run beyond step $best; look at what they said"
            exit 75
        fi
    else
        fruitless=0
        best=$step
    fi
    say "starting again at step $step"
done
exit 75
