# frozen_string_literal: true

# Puts promring into prometheus-client's suite, gives each example data of its own, and holds it to the list of what
# differs: a listed example must fail, and must exist.

level = ENV.fetch("PROMRING_LEVEL")
level == "classes" ? require("promring/prometheus") : require("promring/data_store")
require "prometheus/client"
Prometheus::Client::DataStores::Synchronized.define_singleton_method(:new) { |*| Promring::DataStore.isolated }

# Reason by description: a line with one belongs to the "# reason" above it; "level: description" counts on that level.
module Differs
  LIST = File.join(__dir__, "differs.txt")

  def self.listed(level)
    reason = nil
    File.readlines(LIST, chomp: true).each_with_object({}) do |line, listed|
      next reason = line.delete_prefix("# ") if line.start_with?("#")

      of_level, description = line.match(/\A(?:(store|classes): )?(.+)\z/)&.captures
      listed[description] = reason if description && [nil, level].include?(of_level)
    end
  end
end

listed = Differs.listed(level)
RSpec.configure do |config|
  config.before { Prometheus::Client.config.data_store = Promring::DataStore.isolated }
  config.before do |example|
    reason = listed.delete(example.full_description)
    pending(reason) if reason # which fails should it pass
  end
  config.after(:suite) { abort "differs.txt lists what the suite does not have: #{listed.keys.join(', ')}" unless listed.empty? }
end
