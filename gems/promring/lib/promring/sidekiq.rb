# frozen_string_literal: true

# `require "promring/sidekiq"` in an initializer: Sidekiq's processes count their jobs, and one of them, or the web server
# of the same app, listens for Prometheus.
#
# Nothing is started in processes that only put jobs in queues.

require "promring"
require "promring/servers"

module Promring
  # Counts the jobs that a Sidekiq process works on.
  class Sidekiq
    # Jobs take longer than requests.
    BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800].freeze
    LABELS = %i[queue job].freeze
    private_constant :LABELS

    class << self
      # @api private
      def metrics
        @metrics ||= {
          jobs: Promring.counter(:sidekiq_jobs_total, labels: LABELS,
                                                      docstring: "Jobs that were worked on, failed ones included."),
          failed: Promring.counter(:sidekiq_failed_jobs_total, labels: LABELS, docstring: "Jobs that raised an error."),
          seconds: Promring.histogram(:sidekiq_job_duration_seconds, labels: LABELS, buckets: BUCKETS,
                                                                     docstring: "Time of the work."),
          waited: Promring.histogram(:sidekiq_job_wait_seconds, labels: [:queue], buckets: BUCKETS,
                                                                docstring: "Time in the queue."),
          busy: Promring.gauge(:sidekiq_busy_threads, docstring: "Jobs that are worked on now.", aggregation: :livesum)
        }
      end
    end

    # Called by Sidekiq around each job.
    # @param job [Hash]
    # @param queue [String]
    def call(_worker, job, queue)
      labels = { queue: queue, job: name_of(job) }
      wait(job, queue)
      started = now
      count(:busy).increment
      yield
    rescue Exception # as Sidekiq does: a job that is shut down has failed as well
      count(:failed).increment(labels: labels)
      raise
    ensure
      finish(labels, started)
    end

    private

    def count(metric)
      Sidekiq.metrics.fetch(metric)
    end

    def finish(labels, started)
      count(:busy).decrement
      count(:jobs).increment(labels: labels)
      count(:seconds).observe(now - started, labels: labels)
      Servers.after_request
    end

    # ActiveJob's own class stands in another place.
    def name_of(job)
      job["wrapped"] || job["class"]
    end

    # Milliseconds from Sidekiq 8 on.
    def wait(job, queue)
      enqueued = job["enqueued_at"] or return

      enqueued /= 1000.0 if enqueued.is_a?(Integer)
      count(:waited).observe([Time.now.to_f - enqueued, 0].max, labels: { queue: queue })
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end

Sidekiq.configure_server do |config|
  config.server_middleware { |chain| chain.prepend(Promring::Sidekiq) }
  config.on(:startup) { Promring.start_aggregator }
end
