# frozen_string_literal: true

# The pages for those who come from elsewhere: what stands there after the change runs, and counts.

require "support/harness"

class TestDocs < Minitest::Test
  PAGES = Dir[File.expand_path("../docs/from-*.md", __dir__)].to_h { |path| [File.basename(path, ".md"), File.read(path)] }

  # The Ruby of a page from the line "# after" to the end of its block.
  def after(page)
    PAGES.fetch(page)[/^```ruby\n.*?^# after\n(.*?)^```/m, 1]
  end

  def test_from_client_mmap
    out = Harness.ruby!("require 'promring/prometheus'\n#{after('from-client-mmap')}\nputs Promring.expose")
    assert_includes out, %(orders_total{app="shop",kind="book"} 2\n)
    assert_match(/^queue_size\{name="mail"\} 7$/, out)
  end

  def test_from_prometheus_exporter
    out = Harness.ruby!("#{after('from-prometheus-exporter')}\nputs Promring.expose")
    assert_includes out, %(orders_total{kind="book"} 2\n)
    assert_includes out, %(work_seconds_bucket{step="pay",le="1.0"} 1\n)
  end

  def test_from_direct_file_store
    page = PAGES.fetch("from-direct-file-store")
    assert_includes page, 'gem "promring", require: "promring/prometheus"'
    out = Harness.ruby!(<<~RUBY)
      require "promring/prometheus"
      counter = Prometheus::Client.registry.counter(:c_total, docstring: "d")
      p counter.increment
      p Promring::DataStore.isolated.for_metric(:c_total, metric_type: :counter).increment(labels: {})
      Prometheus::Client.registry.unregister(:c_total)
      puts Promring.expose[/^c_total .*/]
    RUBY
    assert_equal ["nil", "1.0", "c_total 1"], out.lines(chomp: true)
  end

  def test_from_statsd
    rows = PAGES.fetch("from-statsd").scan(/^\| `(StatsD\..+?)` \|/).flatten
    assert_operator rows.size, :>=, 3
    out = Harness.ruby!(<<~'RUBY')
      require "promring/statsd"
      StatsD.increment("cart.add", tags: { kind: "book" })
      StatsD.measure("db.query") { nil }
      StatsD.gauge("queue", -5)
      puts Promring.expose
    RUBY
    assert_match(/^cart_add\{kind="book"\} 1$/, out)
    assert_match(/^queue -5$/, out)
    assert_match(/^db_query_count 1$/, out)
  end

  def test_what_servers_md_names_is_shown_by_the_servers_file
    names = File.read(File.expand_path("../docs/servers.md", __dir__)).scan(/`((?:puma|unicorn)_\w+)`/).flatten
    source = File.read($LOADED_FEATURES.find { |path| path.end_with?("promring/servers.rb") } || File.expand_path("../lib/promring/servers.rb", __dir__))
    names.each { |name| assert source.include?(name) || source.include?("#{name.delete_prefix('puma_')}:"), name }
    assert_operator names.size, :>, 4
  end
end
