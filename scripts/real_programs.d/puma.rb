# Configuration of puma: one thread in each worker, all forked from a process that has loaded the application.

workers 2
threads 1, 1
preload_app!

# Both variants collect, so that their objects are old and are not written to for growing old; only one of them
# compacts.
before_fork do
  4.times { GC.start }
  GC.compact if ENV['COMPACT'] == 'yes'
end
