# Makes README.md of README.head.md and of values.yaml: the comments that begin with two dashes, each with the key that
# follows it, and its default. Run by `awk -f charts/gotel/readme.awk charts/gotel/README.head.md charts/gotel/values.yaml`.

FNR == NR { print; next }

FNR == 1 { print "\n| value | meaning | default |\n|---|---|---|" }

/^ *# -- / { sub(/^ *# -- /, ""); meaning = $0; next }

/^ *[A-Za-z]+:/ {
  indent = match($0, /[^ ]/) - 1
  key = $0; sub(/^ */, "", key); sub(/:.*/, "", key)
  value = $0; sub(/^[^:]*: */, "", value)
  for (level in keys) if (level + 0 >= indent) delete keys[level]
  keys[indent] = key
  if (meaning == "") next
  path = ""
  for (level = 0; level <= indent; level += 2) path = path (path == "" ? "" : ".") keys[level]
  gsub(/\|/, "\\|", meaning)
  print "| `" path "` | " meaning " | `" value "` |"
  meaning = ""
}
