# frozen_string_literal: true

# A real Rails app, of one file: the Railtie, with nothing configured and with what can be.

require "support/harness"

class TestRails < Minitest::Test
  # An app that answers GET /books/7 and GET /fail; `settings` are lines of its config.
  def rails(settings, program, before: "")
    Harness.ruby!(<<~RUBY)
      $VERBOSE = nil # Rails' own warnings are not ours
      require "logger"
      require "rails"
      require "action_controller/railtie"
      require "rack/mock"
      #{before}
      require "promring/railtie"
      LOGGED = StringIO.new
      class App < Rails::Application
        config.eager_load = false
        config.logger = Logger.new(LOGGED)
        config.hosts = []
        config.secret_key_base = "x"
        config.action_dispatch.show_exceptions = false
        #{settings}
      end
      class BooksController < ActionController::Base
        def show = render(plain: params[:id])
        def fail = raise(IOError, "no")
      end
      App.initialize!
      App.routes.draw do
        get "/books/:id", to: "books#show"
        get "/fail", to: "books#fail"
      end
      def get(path, app = App, **env) = Rack::MockRequest.new(app).get(path, env)
      #{program}
    RUBY
  end

  def test_with_nothing_configured
    out = rails("", <<~RUBY)
      3.times { get("/books/7") }
      begin get("/fail"); rescue IOError; end
      page = get("/metrics")
      puts page.status, page.headers["content-type"], page.body.lines.grep(/^http_server_(requests|exceptions)/)
      Promring::Native.log("a notice")
      Promring.pass_on_log
      puts LOGGED.string.lines.grep(/promring: a notice/).size
    RUBY
    assert_equal ["200", "text/plain; version=0.0.4; charset=utf-8", 'http_server_requests_total{code="200",method="get",path="/books/:id"} 3',
                  'http_server_exceptions_total{exception="IOError"} 1', "1"], out.lines(chomp: true)
  end

  def test_what_can_be_configured
    out = rails("config.promring.path = '/internal'\nconfig.promring.collector = false", <<~RUBY)
      get("/books/7")
      begin get("/metrics"); rescue ActionController::RoutingError => error; puts error.class; end
      puts get("/internal").status, get("/internal").body.lines.grep(/^http_server/).size
    RUBY
    assert_equal %w[ActionController::RoutingError 200 0], out.lines(chomp: true)
    out = rails("config.promring.path = nil", "begin get('/metrics'); rescue ActionController::RoutingError; puts 'none'; end")
    assert_equal "none\n", out
  end

  def test_a_collector_of_prometheus_client_counts_alone
    before = "require 'promring/prometheus'\nrequire 'prometheus/middleware/collector'"
    shown = "puts get('/metrics').body.lines.grep(/^http_server_requests/)"
    expected = %(http_server_requests_total{code="200",method="get",path="/books/:id"} 1\n)
    assert_equal expected, rails("config.middleware.use Prometheus::Middleware::Collector", "get('/books/1')\n#{shown}", before: before)
    assert_equal expected, rails("", "get('/books/1', Prometheus::Middleware::Collector.new(App))\n#{shown}", before: before)
  end

  def test_notices_of_another_process_are_not_said_again
    out = rails("", <<~RUBY)
      Promring::Native.log("of the parent")
      Process.wait(fork { Promring::Native.log("of the child"); Promring.pass_on_log; puts LOGGED.string; $stdout.flush; exit!(0) })
      Promring.pass_on_log
      puts LOGGED.string
    RUBY
    assert_equal ["of the child", "of the parent"], out.scan(/of the \w+/)
  end
end
