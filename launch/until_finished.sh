#!/bin/sh
# Starts a training command again and again until its run is finished.
#
#   sh launch/until_finished.sh runs/demo -- python -m launch.train --config configs/demo.yaml
#   sh launch/until_finished.sh runs/x -- accelerate launch -m launch.train --config configs/webstereo.yaml
#
# After each end it asks `python -m launch.status RUN`: 0 finished and 1 failed end the loop with that code, 75 starts
# the command again. It gives up, with code 75, after $FRUITLESS starts in a row (default 3) that took the run no step
# further. A stop of the loop itself, by SIGTERM, SIGINT or SIGHUP, is told to the command, waited for, and ends the
# loop with 75. $PYTHON is the interpreter that is asked (default python).

if [ $# -lt 3 ] || [ "$2" != -- ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
run=$1
shift 2

python=${PYTHON:-python}
limit=${FRUITLESS:-3}
fruitless=0
before=none
asked=

say() { echo "until_finished: $*" >&2; }
stop() {
    asked=yes
    kill -s TERM "$command" 2>/dev/null # not INT, which a shell lets its background commands ignore
}
trap stop TERM INT HUP

while :; do
    "$@" &
    command=$!
    # A signal ends `wait` early: wait again until the command has really ended.
    while wait "$command"; kill -0 "$command" 2>/dev/null; do :; done
    text=$("$python" -m launch.status "$run")
    code=$?
    echo "$text"
    [ "$code" -eq 75 ] || exit "$code"
    [ -z "$asked" ] || exit 75
    step=$(echo "$text" | sed -n 's/^.* at step \([0-9]*\) of .*/\1/p;q')
    if [ "$step" = "$before" ]; then
        fruitless=$((fruitless + 1))
        if [ "$fruitless" -ge "$limit" ]; then
            say "$fruitless starts in a row have not taken $run beyond step $step; look at what they said"
            exit 75
        fi
    else
        fruitless=0
    fi
    before=$step
    say "starting again at step $step"
done
