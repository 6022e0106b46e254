using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>How server-side apply merges a list.</summary>
internal enum ListType
{
    Atomic,
    Set,
    Map,
}

/// <summary>A node of a structural schema (JSONSchemaProps of a CustomResourceDefinition), read once.</summary>
internal sealed class Schema
{
    private static readonly Dictionary<string, Schema> NoProperties = [];

    /// <summary>A schema that says nothing: anything goes, and is kept.</summary>
    public static readonly Schema Anything = new() { PreserveUnknown = true };

    public string? Type { get; init; }

    public string? Format { get; init; }

    public IReadOnlyDictionary<string, Schema> Properties { get; init; } = NoProperties;

    /// <summary>The schema of values under any other name; null where there may be none.</summary>
    public Schema? AdditionalProperties { get; init; }

    public Schema? Items { get; init; }

    public IReadOnlyList<string> Required { get; init; } = [];

    public JsonArray? Enum { get; init; }

    public string? PatternText { get; init; }

    public Regex? Pattern { get; init; }

    public double? Minimum { get; init; }

    public double? Maximum { get; init; }

    public bool ExclusiveMinimum { get; init; }

    public bool ExclusiveMaximum { get; init; }

    public double? MultipleOf { get; init; }

    public long? MinLength { get; init; }

    public long? MaxLength { get; init; }

    public long? MinItems { get; init; }

    public long? MaxItems { get; init; }

    public long? MinProperties { get; init; }

    public long? MaxProperties { get; init; }

    public bool UniqueItems { get; init; }

    public bool Nullable { get; init; }

    public bool IntOrString { get; init; }

    public bool PreserveUnknown { get; init; }

    public bool EmbeddedResource { get; init; }

    public bool HasDefault { get; init; }

    public JsonNode? Default { get; init; }

    public ListType ListType { get; init; }

    public IReadOnlyList<string> ListMapKeys { get; init; } = [];

    public bool AtomicMap { get; init; }

    /// <summary>Whether this node or one below it has x-kubernetes-validations.</summary>
    public bool HasRules { get; init; }

    public IReadOnlyList<Schema> AllOf { get; init; } = [];

    public IReadOnlyList<Schema> AnyOf { get; init; } = [];

    public IReadOnlyList<Schema> OneOf { get; init; } = [];

    public Schema? Not { get; init; }

    /// <summary>The schema of the field, be it a declared property or an additional one; null when it is unknown.</summary>
    public Schema? Field(string name) => Properties.GetValueOrDefault(name) ?? AdditionalProperties;

    public static Schema Read(JsonObject json)
    {
        Dictionary<string, Schema> properties =
            json.Obj("properties")?.ToDictionary(p => p.Key, p => Read((JsonObject)p.Value!), StringComparer.Ordinal) ?? NoProperties;
        Schema? additional = json["additionalProperties"] switch
        {
            JsonObject schema => Read(schema),
            JsonValue v when v.TryGetValue(out bool yes) && yes => Anything,
            _ => null,
        };
        Schema? items = json.Obj("items") is { } i ? Read(i) : null;
        string? pattern = json.Str("pattern");
        return new Schema
        {
            Type = json.Str("type"),
            Format = json.Str("format"),
            Properties = properties,
            AdditionalProperties = additional,
            Items = items,
            Required = Strings(json.Arr("required")),
            Enum = json.Arr("enum"),
            PatternText = pattern,
            Pattern = pattern is null ? null : GoRegex.Compile(pattern),
            Minimum = Json.AsDouble(json["minimum"]),
            Maximum = Json.AsDouble(json["maximum"]),
            ExclusiveMinimum = json.Flag("exclusiveMinimum"),
            ExclusiveMaximum = json.Flag("exclusiveMaximum"),
            MultipleOf = Json.AsDouble(json["multipleOf"]),
            MinLength = json.Int("minLength"),
            MaxLength = json.Int("maxLength"),
            MinItems = json.Int("minItems"),
            MaxItems = json.Int("maxItems"),
            MinProperties = json.Int("minProperties"),
            MaxProperties = json.Int("maxProperties"),
            UniqueItems = json.Flag("uniqueItems"),
            Nullable = json.Flag("nullable"),
            IntOrString = json.Flag("x-kubernetes-int-or-string"),
            PreserveUnknown = json.Flag("x-kubernetes-preserve-unknown-fields"),
            EmbeddedResource = json.Flag("x-kubernetes-embedded-resource"),
            HasDefault = json.ContainsKey("default"),
            Default = json["default"].Copy(),
            ListType = json.Str("x-kubernetes-list-type") switch
            {
                "map" => ListType.Map,
                "set" => ListType.Set,
                _ => ListType.Atomic,
            },
            ListMapKeys = Strings(json.Arr("x-kubernetes-list-map-keys")),
            AtomicMap = json.Str("x-kubernetes-map-type") == "atomic",
            HasRules =
                json.ContainsKey("x-kubernetes-validations")
                || properties.Values.Any(p => p.HasRules)
                || additional is { HasRules: true }
                || items is { HasRules: true },
            AllOf = Many(json, "allOf"),
            AnyOf = Many(json, "anyOf"),
            OneOf = Many(json, "oneOf"),
            Not = json.Obj("not") is { } not ? Read(not) : null,
        };
    }

    private static Schema[] Many(JsonObject json, string name) => json.Arr(name)?.OfType<JsonObject>().Select(Read).ToArray() ?? [];

    private static string[] Strings(JsonArray? array) => array?.Select(Json.AsString).OfType<string>().ToArray() ?? [];
}
