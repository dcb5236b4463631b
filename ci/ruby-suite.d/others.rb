# frozen_string_literal: true

# With prometheus-client's own registry: metrics of other kinds than promring's are on the page as well.

require "minitest/autorun"
require "promring/prometheus"
require "prometheus/middleware/exporter"

class TestOthers < Minitest::Test
  Foreign = Struct.new(:name, :type, :docstring, :values)

  def test_they_are_on_the_page
    registry = Prometheus::Client.registry
    registry.counter(:ours_total, docstring: "d").increment
    with_a_store = Class.new(Prometheus::Client::Metric) do
      def type = :gauge
      def note(value) = @store.set(labels: {}, val: value)
    end
    registry.register(with_a_store.new(:noted, docstring: "d", store_settings: { aggregation: :max })).note(3)
    exporter = Prometheus::Middleware::Exporter.new(nil)
    ask = ->(accept) { exporter.call("PATH_INFO" => "/metrics", "HTTP_ACCEPT" => accept) }
    assert_match(%r{\Aapplication/openmetrics-text}, ask.call("application/openmetrics-text;version=1.0.0")[1]["content-type"])
    registry.register(Foreign.new(:foreign, :gauge, "d", { { a: "x" } => 5.0 }))
    status, headers, body = ask.call("application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert_equal [200, "text/plain; version=0.0.4"], [status, headers["content-type"]]
    assert_equal ["foreign{a=\"x\"} 5.0", "noted 3", "ours_total 1"], body.join.lines(chomp: true).grep(/^(ours|noted|foreign)/).sort
    assert_equal 406, ask.call("application/json")[0]
  end
end
