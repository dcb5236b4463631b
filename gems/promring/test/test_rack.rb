# frozen_string_literal: true

# Rack: the exporter as middleware and as an app, the collector, and the README's five lines.

require "support/harness"
require "rack"

class TestRack < Minitest::Test
  def setup
    @prefix = "r#{self.class.next_number}"
  end

  def self.next_number
    @number = (@number || 0) + 1
  end

  def env(path, method: "GET", **rest)
    { "REQUEST_METHOD" => method, "PATH_INFO" => path, "SCRIPT_NAME" => "", "QUERY_STRING" => "", "SERVER_PORT" => "80",
      "SERVER_NAME" => "localhost" }.merge(rest)
  end

  def test_the_exporter_as_middleware
    app = Promring::Rack::Exporter.new(->(env) { [204, {}, [env["PATH_INFO"]]] })
    counter = Promring.counter(:r_shown_total, docstring: "d")
    Harness.in_child { 3.times { counter.increment } }
    status, headers, body = app.call(env("/metrics"))
    assert_equal [200, "text/plain; version=0.0.4; charset=utf-8"], [status, headers["content-type"]]
    assert_includes body.join, "r_shown_total 3\n"
    assert_equal body.join.bytesize.to_s, headers["content-length"]
    assert_equal [204, {}, ["/other"]], app.call(env("/other"))
    assert_equal [204, {}, ["/metrics/x"]], app.call(env("/metrics/x"))
  end

  def test_head_and_other_methods
    app = Promring::Rack::Exporter.new(->(_) { flunk })
    status, headers, body = app.call(env("/metrics", method: "HEAD"))
    assert_equal [200, []], [status, body]
    assert_operator headers["content-length"].to_i, :>, 100
    status, headers, = app.call(env("/metrics", method: "POST"))
    assert_equal [405, "GET, HEAD"], [status, headers["allow"]]
  end

  def test_path_and_port
    app = Promring::Rack::Exporter.new(->(_) { [204, {}, []] }, path: "/internal", port: 9000)
    assert_equal [200, 204, 204], [env("/internal", "SERVER_PORT" => "9000"), env("/internal"), env("/metrics")].map { |e| app.call(e)[0] }
  end

  def test_the_exporter_as_an_app
    app = Rack::Builder.new { map("/metrics") { run Promring::Rack::Exporter.new } }.to_app
    assert_equal [200, 200, 404], %w[/metrics /metrics/ /metrics/x].map { |path| app.call(env(path))[0] }
    assert_equal 200, Promring::Rack::Exporter.new.call(env("/metrics"))[0]
  end

  def test_it_is_what_rack_expects
    app = Rack::Lint.new(Promring::Rack::Exporter.new(->(_) { [204, {}, []] }))
    %w[GET HEAD POST].each do |method|
      request = Rack::MockRequest.env_for("/metrics", method: method)
      _, _, body = app.call(request)
      body.each { |part| assert_kind_of String, part }
      body.close
    end
  end

  def collect(prefix = @prefix, &app)
    Promring::Rack::Collector.new(app, metrics_prefix: prefix)
  end

  def requests(prefix = @prefix)
    Promring.counter(:"#{prefix}_requests_total", docstring: "d", labels: %i[code method path]).values
  end

  def test_the_collector
    app = collect { |env| [env["PATH_INFO"] == "/" ? 200 : 404, {}, ["x"]] }
    assert_equal [200, {}, ["x"]], app.call(env("/"))
    3.times { app.call(env("/gone", method: "POST")) }
    assert_equal({ { code: "200", method: "get", path: "/" } => 1.0, { code: "404", method: "post", path: "/gone" } => 3.0 }, requests)
    seconds = Promring.histogram(:"#{@prefix}_request_duration_seconds", docstring: "d", labels: %i[method path]).values
    assert_equal [{ method: "get", path: "/" }, { method: "post", path: "/gone" }], seconds.keys
    assert_equal [1.0, 3.0], (seconds.values.map { |value| value["+Inf"] })
  end

  def test_exceptions
    app = collect { |_| raise KeyError, "no" }
    2.times { assert_raises(KeyError) { app.call(env("/")) } }
    counter = Promring.counter(:"#{@prefix}_exceptions_total", docstring: "d", labels: [:exception])
    assert_equal({ { exception: "KeyError" } => 2.0 }, counter.values)
    assert_empty requests
  end

  def test_the_names_of_statsd_rack_instrument
    app = Promring::Rack::Collector.new(->(env) { env["PATH_INFO"] == "/fail" ? raise(KeyError) : [201, {}, []] }, names: :statsd_rack_instrument)
    %w[/a/7 /b/507f1f77bcf86cd799439011 /c/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/x /d/decadedecade].each { |path| app.call(env(path)) }
    assert_raises(KeyError) { app.call(env("/fail")) }
    found = Promring.expose.scan(/^rack_server_request_duration_seconds_count\{code="201",method="get",path="(.*)"\} 1$/).flatten
    assert_equal %w[/a/:id /b/:object-id /c/:uuid/x /d/decadedecade], found
    assert_includes Promring.expose, %(rack_server_exceptions_total{exception="KeyError"} 1\n)
    refute_includes Promring.expose, "rack_server_requests_total"
    assert_raises(ArgumentError) { Promring::Rack::Collector.new(nil, names: :others) }
  end

  def test_a_request_is_counted_by_the_outermost_collector
    outer = Promring::Rack::Collector.new(collect { |_| [200, {}, []] }, metrics_prefix: "#{@prefix}_outer")
    outer.call(env("/"))
    assert_empty requests
    assert_match(/^#{@prefix}_outer_requests_total.* 1$/, Promring.expose)
  end

  def test_the_names_are_those_of_prometheus_client
    Promring::Rack::Collector.new(->(_) { [200, {}, []] }).call(env("/"))
    page = Promring.expose
    %w[http_server_requests_total http_server_request_duration_seconds http_server_exceptions_total].each do |name|
      assert_includes page, "# TYPE #{name} "
    end
  end

  def test_paths_lose_their_ids
    app = collect { [200, {}, []] }
    { "/users/12" => "/users/:id", "/users/12/posts/7/" => "/users/:id/posts/:id/", "/v2/users" => "/v2/users",
      "/x/5ae9c6f0-1b2c-4d3e-8f90-0123456789ab/y" => "/x/:uuid/y", "/12ab" => "/12ab", "/1/2/3" => "/:id/:id/:id" }
      .each do |path, expected|
      app.call(env(path))
      assert_includes requests.keys, { code: "200", method: "get", path: expected }
    end
    app.call(env("/b", "SCRIPT_NAME" => "/a"))
    assert_includes requests.keys, { code: "200", method: "get", path: "/a/b" }
  end

  def test_what_clients_make_up
    app = collect { [200, {}, []] }
    app.call(env("/", method: "PROPFIND"))
    app.call(env("/", method: "X" * 5000))
    app.call(env("/\xff\n\"".b))
    app.call({ "REQUEST_METHOD" => "GET" })
    assert_equal [{ code: "200", method: "other", path: "/" }, { code: "200", method: "get", path: "/\uFFFD\n\"" },
                  { code: "200", method: "get", path: "" }], requests.keys
  end

  def test_the_readmes_five_lines
    readme = File.expand_path("../../../README.md", __dir__)
    lines = File.read(readme)[/^```ruby\n(.*?)^```/m, 1]
    assert_equal 5, lines.lines.size
    Harness.ruby!(<<~RUBY, env: { "LINES" => lines })
      require "rack"
      app = Rack::Builder.new_from_string(ENV["LINES"])
      get = ->(path) { app.call(Rack::MockRequest.env_for(path)) }
      2.times { get.("/")[0] == 200 or abort "not served" }
      pid = fork { get.("/"); exit!(0) }
      Process.wait(pid)
      page = get.("/metrics")[2].join
      page.include?('orders_total{kind="book"} 3') or abort page
      page.include?('http_server_requests_total{code="200",method="get",path="/"} 3') or abort page
    RUBY
  end
end
