# frozen_string_literal: true

# The signatures that the gem ships are those of its methods: names, and which arguments there are.

require "support/harness"
require "promring/statsd"
require "promring/rack"
require "rbs"

class TestSignatures < Minitest::Test
  SIG = File.join(Gem.loaded_specs.fetch("promring").full_gem_path, "sig")

  def setup
    loader = RBS::EnvironmentLoader.new.tap { |files| files.add(path: Pathname(SIG)) }
    @builder = RBS::DefinitionBuilder.new(env: RBS::Environment.from_loader(loader).resolve_type_names)
  end

  def test_every_method_has_the_arguments_that_its_signature_says
    ours = @builder.env.class_decls.keys.select { |name| name.to_s.start_with?("::Promring") }
    assert_operator ours.size, :>, 15
    ours.each do |name|
      there = Object.const_get(name.to_s)
      methods_of(@builder.build_instance(name), name).each { |method, types| check(there.instance_method(method), types) }
      methods_of(@builder.build_singleton(name), name).each { |method, types| check(there.method(method), types) }
    end
  end

  def test_every_public_method_has_a_signature
    [Promring::Counter, Promring::Gauge, Promring::Histogram, Promring::Summary, Promring::StatsD::Client,
     Promring::Rack::Exporter, Promring::Rack::Collector].each do |there|
      name = RBS::TypeName.new(name: there.name.split("::").last.to_sym, namespace: RBS::Namespace.parse("::#{there.name}").parent)
      described = @builder.build_instance(name).methods.keys
      public_methods = there.public_instance_methods - Object.public_instance_methods
      assert_empty public_methods - described, there.name
    end
    assert_empty Promring.singleton_methods(false) - @builder.build_singleton(RBS::TypeName.new(name: :Promring, namespace: RBS::Namespace.root)).methods.keys
  end

  private

  # What is described in the module or class itself, `initialize` as itself.
  def methods_of(definition, name)
    definition.methods.select { |method, described| described.defs.any? { |one| one.implemented_in == name } && method != :new }
  end

  def check(method, described)
    keywords = method.parameters.select { |sort, _| %i[key keyreq].include?(sort) }.map(&:last)
    described.method_types.each do |type|
      function = type.type
      named = function.required_keywords.keys + function.optional_keywords.keys
      assert_empty named - keywords, "#{method.inspect}: keywords"
      needed = function.required_positionals.size
      least, most = positionals(method)
      assert_includes least..most, needed, "#{method.inspect}: arguments"
      assert_operator needed + function.optional_positionals.size, :<=, most, "#{method.inspect}: arguments"
    end
    said = described.method_types.flat_map { |type| type.type.required_keywords.keys + type.type.optional_keywords.keys }
    assert_empty keywords - said, "#{method.inspect}: keywords without a signature"
  end

  def positionals(method)
    sorts = method.parameters.map(&:first)
    [sorts.count(:req), sorts.include?(:rest) ? 99 : sorts.count(:req) + sorts.count(:opt)]
  end
end
