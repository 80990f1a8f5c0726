#!/usr/bin/env bash
# Hold credit of an account for one rendering, do the work, and charge what it came to.
# GATEWAY_URL, CREDIT_TOKEN; the account is the argument.
set -euo pipefail

ask() {  # path, body: what is answered
    curl -sS "$GATEWAY_URL/credit/v1$1" -H "Authorization: Bearer $CREDIT_TOKEN" \
         -H 'Content-Type: application/json' "${@:3}" -d "$2"
}

# With a name of its own the request can be repeated until it is answered: it is one hold.
held=$(ask /holds '{"account": "'"$1"'", "route": "rendering.create", "estimate": {"megapixels": 20}}' \
           -H "Idempotency-Key: $(date +%s)-$$")
hold=$(sed -n 's/.*"id":"\([^"]*\)".*/\1/p' <<< "$held")
if [ -z "$hold" ]; then
    echo "refused: $held"
    exit 1
fi
echo "held: $(sed -n 's/.*"held":"\([^"]*\)".*/\1/p' <<< "$held")"

# ... the work is done here; if it fails: ask "/holds/$hold/release" '{}'

settled=$(ask "/holds/$hold/settle" '{"usage": {"megapixels": 12.5}}')
echo "charged: $(sed -n 's/.*"charged":"\([^"]*\)".*/\1/p' <<< "$settled")"
