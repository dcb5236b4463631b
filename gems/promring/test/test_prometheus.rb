# frozen_string_literal: true

# `require "promring/prometheus"`: what an app on prometheus-client calls. Runs on that gem's own classes where it can
# be loaded, on the names that promring has for them elsewhere; both must do.

require "support/harness"
require "promring/prometheus"
require "prometheus/middleware/collector"
require "prometheus/middleware/exporter"
require "prometheus/client/data_stores/direct_file_store"
require "rack"

class TestPrometheus < Minitest::Test
  REGISTRY = Prometheus::Client.registry

  def app
    ->(env) { env["PATH_INFO"] == "/fail" ? raise(IOError, "no") : [200, { "content-type" => "text/plain" }, ["fine"]] }
  end

  def get(app, path, **rest)
    app.call({ "REQUEST_METHOD" => "GET", "PATH_INFO" => path, "SCRIPT_NAME" => "", "SERVER_PORT" => "80" }.merge(rest))
  end

  def test_the_four_metrics_over_processes
    counter = REGISTRY.counter(:p_total, docstring: "Some text.", labels: %i[a b], preset_labels: { b: 2 })
    gauge = REGISTRY.gauge(:p_gauge, docstring: "d", store_settings: { aggregation: :max })
    histogram = REGISTRY.histogram(:p_seconds, docstring: "d", labels: [:a], buckets: [0.5, 1])
    summary = REGISTRY.summary(:p_summary, docstring: "d")
    3.times do |n|
      Harness.in_child do
        counter.increment(labels: { a: "x" })
        counter.with_labels(a: :x).increment(by: 2)
        gauge.set(n)
        histogram.observe(0.75, labels: { a: "y" })
        histogram.with_labels(a: "y").observe(7)
        summary.observe(n)
      end
    end
    assert_equal({ { a: "x", b: "2" } => 9.0 }, counter.values)
    assert_equal 9.0, counter.get(labels: { a: "x" })
    assert_equal 2.0, gauge.values[{}]
    assert_equal({ "0.5" => 0.0, "1" => 3.0, "+Inf" => 6.0, "sum" => 23.25 }, histogram.get(labels: { a: "y" }))
    assert_equal({ "count" => 3.0, "sum" => 3.0 }, summary.get)
    page = Prometheus::Client::Formats::Text.marshal(REGISTRY)
    assert_includes page, "# HELP p_total Some text.\n# TYPE p_total counter\np_total{a=\"x\",b=\"2\"} 9\n"
    assert_includes page, "p_seconds_bucket{a=\"y\",le=\"1.0\"} 3\n"
    assert_equal 9, counter.with_labels(a: "x").get
  end

  def test_calls_do_not_go_through_a_store
    metrics = %i[counter gauge histogram summary].map { |type| REGISTRY.public_send(type, :"p_direct_#{type}", docstring: "d") }
    metrics.each { |metric| refute_nil metric.instance_variable_get(:@native), metric.type }
    counter, gauge, histogram, = metrics
    calls = lambda do
      counter.increment
      gauge.set(1)
      histogram.observe(0.5)
    end
    calls.call
    before = GC.stat(:total_allocated_objects)
    100.times { calls.call }
    assert_equal 0, (GC.stat(:total_allocated_objects) - before) / 100
  end

  def test_the_errors_are_theirs
    validator = Prometheus::Client::LabelSetValidator
    counter = REGISTRY.counter(:p_errors_total, docstring: "d", labels: [:a])
    [nil, {}, { b: 1 }, { a: 1, b: 2 }].each do |labels|
      assert_raises(validator::InvalidLabelSetError, labels.inspect) { counter.increment(**(labels ? { labels: labels } : {})) }
    end
    assert_raises(ArgumentError) { counter.increment(by: -1, labels: { a: 1 }) }
    assert_raises(validator::ReservedLabelError) { REGISTRY.histogram(:p_x, docstring: "d", labels: [:le]) }
    assert_raises(validator::ReservedLabelError) { counter.with_labels(pid: 1) }
    assert_raises(validator::InvalidLabelError) { counter.with_labels("a" => 1) }
    assert_raises(validator::InvalidLabelSetError) { counter.with_labels(b: 1) }
    assert_raises(Prometheus::Client::Registry::AlreadyRegisteredError) { REGISTRY.gauge(:p_errors_total, docstring: "d") }
    assert_raises(ArgumentError) { REGISTRY.counter("p_x", docstring: "d") }
    assert_raises(ArgumentError) { REGISTRY.histogram(:p_x, docstring: "d", buckets: [2, 1]) }
    assert_raises(Promring::InvalidStoreSettingsError) do
      REGISTRY.gauge(:p_recent, docstring: "d", store_settings: { aggregation: :most_recent }).increment
    end
    assert_same validator::InvalidLabelSetError, Promring::InvalidLabelSetError
  end

  def test_a_subclass_stays_one
    kind = Class.new(Prometheus::Client::Counter) do
      def twice(labels: {})
        2.times { increment(labels: labels) }
      end
    end
    metric = REGISTRY.register(kind.new(:p_twice_total, docstring: "d", labels: [:a]))
    metric.with_labels(a: 1).twice
    assert_equal({ { a: "1" } => 2.0 }, metric.values)
    assert_kind_of Prometheus::Client::Metric, metric
  end

  def test_the_store_that_an_app_chooses_is_not_asked
    before = Prometheus::Client.config.data_store
    assert_kind_of Promring::DataStore, before
    Dir.mktmpdir do |directory|
      Prometheus::Client.config.data_store = Prometheus::Client::DataStores::DirectFileStore.new(dir: directory)
      REGISTRY.counter(:p_files_total, docstring: "d").increment
      assert_empty Dir.children(directory)
    end
    assert_match(/^p_files_total 1$/, Promring.expose)
  ensure
    Prometheus::Client.config.data_store = before
  end

  def test_the_exporter_answers_for_all_processes
    counter = REGISTRY.counter(:p_shown_total, docstring: "d")
    Harness.in_child { 3.times { counter.increment } }
    exporter = Prometheus::Middleware::Exporter.new(app, path: "/internal")
    status, headers, body = get(exporter, "/internal")
    assert_equal 200, status
    assert_match(%r{\Atext/plain; version=0.0.4}, headers["content-type"])
    assert_match(/^p_shown_total 3$/, body.join)
    assert_equal ["fine"], get(exporter, "/metrics").last
    _, headers, body = get(exporter, "/internal", "HTTP_ACCEPT" => "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert_match(%r{\Aapplication/openmetrics-text}, headers["content-type"])
    assert_match(/^# EOF\n\z/, body.join)
  end

  def test_another_registry_is_a_page_of_its_own
    registry = Prometheus::Client::Registry.new
    registry.counter(:p_own_total, docstring: "d").increment(by: 4)
    _, _, body = get(Prometheus::Middleware::Exporter.new(app, registry: registry), "/metrics")
    lines = body.join.lines.grep_v(/^#/)
    assert_equal 1, lines.size
    assert_match(/\Ap_own_total 4(\.0)?\n/, lines.first)
  end

  def test_the_collector
    collector = Prometheus::Middleware::Collector.new(app, metrics_prefix: "p_http")
    get(collector, "/books/42/pages/7")
    get(collector, "/books/f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    assert_raises(IOError) { get(collector, "/fail") }
    page = Promring.expose
    assert_includes page, %(p_http_requests_total{code="200",method="get",path="/books/:id/pages/:id"} 1\n)
    assert_includes page, %(p_http_requests_total{code="200",method="get",path="/books/:uuid"} 1\n)
    assert_includes page, %(p_http_request_duration_seconds_count{method="get",path="/books/:uuid"} 1\n)
    assert_includes page, %(p_http_exceptions_total{exception="IOError"} 1\n)
  end

  def test_metrics_made_before_go_on
    out = Harness.ruby!(<<~RUBY)
      require "promring/prometheus" unless Gem.loaded_specs["prometheus-client"] || $LOAD_PATH.any? { |path| File.exist?(path + "/prometheus/client/config.rb") }
      require "prometheus/client"
      registry = Prometheus::Client.registry
      counter = registry.counter(:before_total, docstring: "d", labels: [:a])
      counter.increment(by: 5, labels: { a: 1 })
      preset = counter.with_labels(a: 1)
      gauge = registry.gauge(:before, docstring: "d", labels: [:b])
      gauge.set(7, labels: { b: 1 })
      require "promring/prometheus"
      preset.increment
      counter.increment(labels: { a: 1 })
      puts Promring.expose.lines.grep(/^before/)
    RUBY
    assert_equal ["before_total{a=\"1\"} 7", "before{b=\"1\",pid=\"\"} 7"], out.gsub(/pid="\d+"/, 'pid=""').lines(chomp: true)
  end

  def test_a_counter_per_process
    counter = REGISTRY.counter(:p_all_total, docstring: "d", labels: [:a], store_settings: { aggregation: :all })
    counter.increment(labels: { a: 1 })
    Harness.in_child { counter.with_labels(a: 1).increment(by: 2) }
    assert_equal [1.0, 2.0], counter.values.values.sort
    assert_equal 1.0, counter.values[{ a: "1", pid: Process.pid.to_s }]
    assert_equal 1.0, counter.get(labels: { a: 1 })
  end

  # prometheus-client-mmap, say, which Debian puts where every program finds it.
  def test_another_gem_of_the_same_file_is_passed_over_or_named
    Dir.mktmpdir do |directory|
      FileUtils.mkdir_p("#{directory}/prometheus")
      File.write("#{directory}/prometheus/client.rb", "module Prometheus; module Client; OTHER = 1; end; end")
      find = "$LOAD_PATH.reject! { |path| File.exist?(path + '/prometheus/client/config.rb') }; $LOAD_PATH.unshift(#{directory.dump})"
      out = Harness.ruby!("#{find}\nrequire 'promring/prometheus'\np Prometheus::Client.const_defined?(:OTHER), Prometheus::Client::Counter")
      assert_equal %w[false Promring::Counter], out.split
      _, err, status = Harness.ruby("#{find}\nrequire 'prometheus/client'\nrequire 'promring/prometheus'")
      refute status.success?
      assert_match(/has to leave the Gemfile.*LoadError/, err)
    end
  end

  def test_a_push
    require "prometheus/client/push"
    registry = Prometheus::Client::Registry.new
    registry.gauge(:p_pushed, docstring: "d", store_settings: { aggregation: :sum }).set(3)
    TCPServer.open("127.0.0.1", 0) do |gateway|
      asked = Thread.new { 2.times.map { gateway.accept.then { |socket| read_request(socket) } } }
      push = Prometheus::Client::Push.new(job: "a/job", gateway: "http://127.0.0.1:#{gateway.addr[1]}", grouping_key: { host: "b c" })
      push.add(registry)
      assert_raises(Prometheus::Client::Push::HttpServerError) { push.delete }
      (post, body), (delete,) = asked.value
      assert_equal "POST /metrics/job@base64/YS9qb2I=/host/b%20c HTTP/1.1", post
      assert_match(/^p_pushed 3/, body)
      assert_match(/\ADELETE /, delete)
    end
  end

  private

  def read_request(socket)
    line, *headers = socket.gets("\r\n\r\n").split("\r\n")
    length = headers.find { |header| header =~ /\Acontent-length:/i }.to_s[/\d+/].to_i
    body = socket.read(length)
    socket.write("HTTP/1.1 #{line.start_with?('POST') ? '200 OK' : '500 No'}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    socket.close
    [line, body]
  end
end
