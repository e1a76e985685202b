# A catalogue that is loaded before the workers are forked. Loading leaves free slots between its objects. A request
# takes such slots for its own objects, and so writes to pages that hold objects of the catalogue.

ITEMS = 300_000
OBJECTS_MADE = 2_000 # by each request
ANSWERS_KEPT = 60

catalogue = ITEMS.times.map do |i|
  line = "item #{i};#{i};#{i + 0.5}"
  name, *prices = line.split(';')
  { name: name.to_sym.to_s, prices: prices.map(&:to_f) }
end
chosen = Random.new(7)
kept = []

run(lambda do |_environment|
  sleep 0.02 # as a database would take
  answer = Array.new(OBJECTS_MADE) { catalogue[chosen.rand(ITEMS)][:name] + '.' }
  kept.push(answer)
  kept.shift if kept.size > ANSWERS_KEPT
  [200, { 'Content-Type' => 'text/plain' }, [answer.first]]
end)
