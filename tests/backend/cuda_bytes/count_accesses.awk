# PTX -> the same PTX that calls hybridmed_touch(address, bytes + 256 where it is a store) before
# each access that may be to device memory. Addresses that are names (tables of constants) are left.
function size_of(type) { return substr(type, 2) / 8 }

/^\.address_size/ {
  print
  print ".func hybridmed_touch(.param .b64 hybridmed_touch_param_0, " \
        ".param .b32 hybridmed_touch_param_1);"
  next
}
/\.func/ && /hybridmed_touch/ { own = 1 }
own && /^}/ { own = 0 }
!own && /^[ \t]*(@!?%[a-z]+[0-9]+ +)?(ld|st|ldu|red|atom|cp\.async)[.a-z0-9:_]*[ \t].*\[/ {
  line = $0
  sub(/^[ \t]*/, "", line)
  guard = ""
  if (line ~ /^@/) {
    guard = line
    sub(/[ \t].*/, "", guard)
    sub(/^@[^ \t]*[ \t]*/, "", line)
  }
  operation = line
  sub(/[ \t].*/, "", operation)
  operands = substr(line, length(operation) + 1)
  n = split(operation, part, ".")
  if (operation ~ /^cp\.async\.(commit|wait|mbarrier|bulk)/ ||
      operation ~ /\.(param|shared|local|const)(\.|$|:)/ && part[1] != "cp") { print; next }
  if (operation ~ /^(red|atom)/) { print "atomics are not counted: " $0 >"/dev/stderr"; exit 1 }
  store = 0
  if (part[1] == "cp") {  # cp.async [shared], [global], bytes, bytes that are read
    count = split(operands, argument, /, */)
    address = argument[2]
    bytes = argument[3] + 0
    if (count > 3) { read = argument[4]; sub(/;.*/, "", read) } else read = bytes
  } else {
    store = part[1] == "st"
    bytes = size_of(part[n])
    for (i = 2; i < n; ++i) if (part[i] ~ /^v[24]$/) bytes *= substr(part[i], 2)
    read = bytes
    address = operands
    sub(/^[^\[]*/, "", address)
  }
  sub(/^[^\[]*\[/, "", address)
  sub(/\].*/, "", address)
  if (address !~ /^%/) { print; next }
  base = address
  sub(/[+-].*/, "", base)
  offset = substr(address, length(base) + 1)
  sub(/^\+/, "", offset)
  if (offset == "") offset = 0
  print "{"
  print ".reg .b64 %touched; .reg .b32 %touched_how; .reg .pred %touched_any;"
  print "add.s64 %touched, " base ", " offset ";"
  if (read == bytes) print "mov.u32 %touched_how, " bytes + 256 * store ";"
  else print "mov.u32 %touched_how, " read ";"
  print "setp.ne.u32 %touched_any, %touched_how, 0;"
  if (guard != "") {
    predicate = substr(guard, 2)
    negated = sub(/^!/, "", predicate)
    if (negated) {
      print ".reg .pred %touched_not;"
      print "not.pred %touched_not, " predicate ";"
      predicate = "%touched_not"
    }
    print "and.pred %touched_any, %touched_any, " predicate ";"
  }
  print "{"
  print ".param .b64 touched_0; st.param.b64 [touched_0], %touched;"
  print ".param .b32 touched_1; st.param.b32 [touched_1], %touched_how;"
  print "@%touched_any call hybridmed_touch, (touched_0, touched_1);"
  print "}"
  print "}"
}
{ print }
