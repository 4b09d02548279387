#!/usr/bin/env bash
# curl, and what a shell can see of an answer. Prints one line a check, as the other sessions do.
set -uo pipefail
command -v curl >/dev/null || { echo "session_curl: no curl here; on Debian and Ubuntu: apt-get install curl" >&2; exit 1; }
url="${BASE_URL:-http://127.0.0.1:8000}"
model="${MODEL:-general}"
composition="${COMPOSITION:-coe}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
key="authorization: Bearer ${API_KEY:-none}"
failed=0
passed=0

post() { # path, fields after the model, then arguments for curl; the status goes out, the rest into files
  local path=$1 fields=$2
  shift 2
  curl --silent --show-error --max-time 120 --dump-header "$folder/headers" --output "$folder/body" \
    --write-out '%{http_code}' --header "$key" \
    --header 'content-type: application/json' "$@" "$url$path" --data "{\"model\": \"$model\", $fields}"
}
chat() { post /v1/chat/completions "\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}], $1" "${@:2}"; }
has() { grep --quiet --extended-regexp "$1" "$folder/${2:-body}"; }
total() { curl --silent --header "$key" "$url/metrics" | awk -v name="^$1[{]" -v label="$2" '$0 ~ name && $0 ~ label { sum += $2 } END { print sum + 0 }'; }
left() { total coe_requests_total client_left; }

check() {
  if "$1"; then
    echo "ok   ${1//_/ }"
    passed=$((passed + 1))
  else
    echo "FAIL ${1//_/ }: $(tr -d '\r\n' <"$folder/body" | cut -c 1-400)"
    failed=$((failed + 1))
  fi
}

answers_a_chat() { [ "$(chat '"max_tokens": 8')" = 200 ] && has '"object": ?"chat.completion"' && has "\"model\": ?\"$model\""; }
gives_the_request_its_own_id_back() {
  chat '"max_tokens": 1' --header 'x-request-id: from-a-shell' >/dev/null && has '^x-request-id: from-a-shell' headers
}
says_which_expert_was_chosen() {
  model=$composition post /v1/chat/completions \
    '"messages": [{"role": "user", "content": "What is the derivative of x^3?"}], "max_tokens": 4' >/dev/null
  has '^x-coe-expert: math' headers
}
streams_events() {
  [ "$(chat '"max_tokens": 8, "stream": true' --no-buffer)" = 200 ] && has '^content-type: text/event-stream' headers &&
    has '^data: \{' && [ "$(grep --invert-match '^$' "$folder/body" | tail -n 1)" = 'data: [DONE]' ]
}
calls_a_tool() {
  local tool='{"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {"utc": {"type": "boolean"}}, "required": ["utc"], "additionalProperties": false}}}'
  chat "\"max_tokens\": 150, \"temperature\": 0, \"tools\": [$tool], \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"clock\"}}" >/dev/null
  has '"name": ?"clock"' && has 'utc[\\]"( |:|[\\]n)*(true|false)'
}
keeps_a_json_schema() {
  local schema='{"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": false}'
  chat "\"max_tokens\": 100, \"temperature\": 0, \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"a\", \"schema\": $schema}}" >/dev/null
  has '[\\]"yes[\\]"( |:|[\\]n)*(true|false)'
}
gives_embeddings() { [ "$(model=$composition post /v1/embeddings '"input": "blue"')" = 200 ] && has '"embedding": ?\['; }
lists_models() { curl --silent --header "$key" "$url/v1/models" >"$folder/body" && has "\"id\": ?\"$model\""; }
is_noticed_when_it_leaves() {
  local before
  before=$(left)
  curl --silent --max-time 1 --output "$folder/body" --header "$key" --header 'content-type: application/json' "$url/v1/chat/completions" \
    --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 1500, \"ignore_eos\": true}"
  for _ in $(seq 600); do
    if [ "$(left)" = $((before + 1)) ] && [ "$(total coe_leases .)" = 0 ]; then return 0; fi
    sleep 0.1
  done
  return 1
}
is_told_what_is_wrong() {
  [ "$(model=gpt-9 chat '"n": 1')" = 404 ] && has '"code": ?"model_not_found"' &&
    [ "$(chat '"temperature": -1')" = 400 ] && has '"type": ?"invalid_request_error"' && has '"param": ?"temperature"' &&
    [ "$(post /v1/chat/completions '"messages": [')" = 400 ] && has 'not JSON' &&
    [ "$(curl --silent --output "$folder/body" --write-out '%{http_code}' "$url/v1/nothing")" = 404 ] && has '"error"'
}

for name in answers_a_chat gives_the_request_its_own_id_back says_which_expert_was_chosen streams_events calls_a_tool \
  keeps_a_json_schema gives_embeddings lists_models is_noticed_when_it_leaves is_told_what_is_wrong; do
  check "$name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
