# frozen_string_literal: true

# Puts promring into prometheus-client's suite, gives each example data of its own, and holds it to the list of what
# differs: a listed example must fail, and must exist.

require_relative "../differs"

level = ENV.fetch("PROMRING_LEVEL")
level == "classes" ? require("promring/prometheus") : require("promring/data_store")
require "prometheus/client"
Prometheus::Client::DataStores::Synchronized.define_singleton_method(:new) { |*| Promring::DataStore.isolated }

# "level: description" counts on that level, a description alone on both.
listed = Differs.read(File.join(__dir__, "differs.txt")).filter_map do |entry, reason|
  of_level, description = entry.match(/\A(?:(store|classes): )?(.+)\z/).captures
  [description, reason] if [nil, level].include?(of_level)
end.to_h
RSpec.configure do |config|
  config.before { Prometheus::Client.config.data_store = Promring::DataStore.isolated }
  config.before do |example|
    reason = listed.delete(example.full_description)
    pending(reason) if reason # which fails should it pass
  end
  config.after(:suite) { abort "differs.txt lists what the suite does not have: #{listed.keys.join(', ')}" unless listed.empty? }
end
