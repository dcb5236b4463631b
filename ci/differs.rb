# frozen_string_literal: true

# Reads a list of what differs between a library's own suite and promring: an entry a line, each under the `# reason` why.
module Differs
  # @return [Hash{String => String}] reason by entry
  def self.read(path)
    reason = nil
    File.readlines(path, chomp: true).each_with_object({}) do |line, found|
      if line.start_with?("#")
        reason = line.delete_prefix("# ")
      elsif !line.empty?
        found[line] = reason or raise "#{line} has no reason"
      end
    end
  end
end
