# frozen_string_literal: true

# What servers tell of themselves as gauges: Puma's threads and backlog, Unicorn's listeners and workers.
#
# In masters that fork no thread of ours asks: Puma's says it when a worker has reported to it (every five seconds),
# Unicorn's when it looks after its workers. A single Puma forks nobody and is asked by a thread, as often. Requests and
# scrapes in the app refresh what their process can tell.
module Promring
  # @api private
  module Servers
    SECONDS = 1
    IDLE_SECONDS = 5 # as often as Puma's workers report to their master
    @reports = []
    @reported = -Float::INFINITY

    class << self
      # The block reports something that is to be known at a scrape.
      def watch(&report)
        @reports << report
      end

      # At the end of a request or a job: an aggregator that has died is noticed here.
      def after_request
        report
        Native.tick
      end

      # Within a request, or in a server's own loop: at most once a second, and never a failure of the request.
      def report
        now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        return if now - @reported < SECONDS

        @reported = now
        Promring.pass_on_log
        @reports.each(&:call)
      rescue StandardError => error
        Native.log("the server's gauges are not reported: #{error.message}")
        @reports.clear
      end
    end

    # Puma's statistics, from the master of a cluster or the only process.
    class Puma
      GAUGES = {
        backlog: "Connections that wait for a thread.", running: "Threads that have been started.",
        pool_capacity: "Requests that could be taken at once now.", max_threads: "Threads that may be started.",
        busy_threads: "Threads that work on a request."
      }.freeze
      CLUSTER = {
        workers: "Workers of the cluster.", booted_workers: "Workers that take requests.",
        old_workers: "Workers that a phased restart has not replaced yet."
      }.freeze
      private_constant :GAUGES, :CLUSTER

      def initialize
        @of_worker = GAUGES.to_h { |name, text| [name, gauge(name, text, [:worker])] }
        @of_cluster = {}
        @requests = counter(:puma_requests_total, "Requests that Puma's workers have answered.")
        @restarts = counter(:puma_worker_restarts_total, "Workers that took a former worker's place.")
        @pids = {}
        @answered = {}
      end

      # @param stats [Hash] as Puma's launcher answers
      def update(stats)
        statuses = stats[:worker_status]
        return report("0", Process.pid, stats) unless statuses

        CLUSTER.each { |name, text| (@of_cluster[name] ||= gauge(name, text, [])).set(stats.fetch(name)) }
        statuses.each { |status| report(status[:index].to_s, status[:pid], status[:last_status]) }
        forget(@pids.keys - statuses.map { |status| status[:index].to_s })
      end

      private

      def gauge(name, text, labels)
        Promring.gauge(:"puma_#{name}", docstring: text, labels: labels, aggregation: :livesum)
      end

      def counter(name, text)
        Promring.counter(name, docstring: text, labels: [:worker])
      end

      def report(worker, pid, status)
        labels = { worker: worker }
        started_anew(worker, pid)
        @of_worker.each { |name, gauge| gauge.set(status[name], labels: labels) if status[name] }
        answered = status[:requests_count] or return # a worker that has not reported yet

        @requests.increment(by: [answered - @answered.fetch(worker, 0), 0].max, labels: labels)
        @answered[worker] = answered
      end

      def started_anew(worker, pid)
        return if @pids[worker] == pid

        @pids[worker] ? @restarts.increment(labels: { worker: worker }) : @restarts.init_label_set({ worker: worker })
        @pids[worker] = pid
        @answered.delete(worker)
      end

      def forget(workers)
        workers.each do |worker|
          @of_worker.each_value { |gauge| gauge.remove(labels: { worker: worker }) }
          @pids.delete(worker)
        end
      end
    end

    # What raindrops tells of Unicorn's listeners, in any process, and what its master knows of workers.
    class Unicorn
      def initialize
        @active = listener_gauge(:unicorn_active_connections, "Connections that are accepted, by listener.")
        @backlog = listener_gauge(:unicorn_backlog, "Connections that wait for a worker, by listener.")
        @workers = Promring.gauge(:unicorn_workers, docstring: "Workers of all masters.", aggregation: :livesum)
        @restarts = Promring.counter(:unicorn_worker_exits_total, docstring: "Workers that have ended.")
      end

      def update_listeners
        require "raindrops"
        unix, tcp = ::Unicorn.listener_names.partition { |name| name.start_with?("/") }
        stats = {}
        stats.update(Raindrops::Linux.tcp_listener_stats(tcp)) unless tcp.empty?
        stats.update(Raindrops::Linux.unix_listener_stats(unix)) unless unix.empty?
        stats.each do |listener, listened|
          @active.set(listened.active, labels: { listener: listener })
          @backlog.set(listened.queued, labels: { listener: listener })
        end
      end

      def update_workers(number, ended)
        @workers.set(number)
        @restarts.increment(by: ended) if ended.positive?
      end

      # Prepended to Unicorn's HttpServer: its master calls both whenever it looks after its workers.
      module Watched
        def self.watch
          @watch ||= Unicorn.new.tap { |watch| Servers.watch { watch.update_listeners } }
        end

        private

        def reap_all_workers
          before = @workers.size
          super.tap do
            Watched.watch.update_workers(@workers.size, before - @workers.size)
            Servers.report
          end
        end

        # In a worker it does not return.
        def spawn_missing_workers
          Watched.watch
          super.tap do
            Watched.watch.update_workers(@workers.size, 0)
            Servers.report
          end
        end
      end

      private

      def listener_gauge(name, text)
        Promring.gauge(name, docstring: text, labels: [:listener], aggregation: :livemostrecent)
      end
    end
  end
end
