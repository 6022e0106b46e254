using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>A resource as it is served in one group and version.</summary>
internal sealed class ResourceType
{
    public required string Group { get; init; }

    public required string Version { get; init; }

    public required string Kind { get; init; }

    public required string Plural { get; init; }

    public required string Singular { get; init; }

    public string ListKind { get; init; } = "";

    public IReadOnlyList<string> ShortNames { get; init; } = [];

    public IReadOnlyList<string> Categories { get; init; } = [];

    public bool Namespaced { get; init; }

    public bool HasStatus { get; init; }

    /// <summary>Whether metadata.generation is kept.</summary>
    public bool HasGeneration { get; init; }

    /// <summary>Whether a PUT without a resourceVersion is taken.</summary>
    public bool AllowsUnconditionalUpdate { get; init; }

    /// <summary>Null for built-in resources.</summary>
    public Schema? Schema { get; init; }

    /// <summary>The schema as the CustomResourceDefinition gives it, for OpenAPI.</summary>
    public JsonObject? SchemaJson { get; init; }

    /// <summary>Field selectors beyond metadata.name and metadata.namespace, with the value's path.</summary>
    public IReadOnlyDictionary<string, string> SelectableFields { get; init; } = new Dictionary<string, string>();

    public IReadOnlyList<Column> Columns { get; init; } = [];

    /// <summary>Which names are allowed.</summary>
    public NameRule Names { get; init; } = NameRule.Subdomain;

    /// <summary>The table that holds the objects; versions and groups of one resource share it.</summary>
    public string Table { get; init; } = "";

    /// <summary>Objects of this version as they are stored, when that differs; must return a new object.</summary>
    public Func<JsonObject, JsonObject>? ToStored { get; init; }

    /// <summary>A stored object in this version, when that differs; must return a new object.</summary>
    public Func<JsonObject, JsonObject>? FromStored { get; init; }

    public bool IsCustom => Schema is not null;

    public string GroupVersion => Group.Length == 0 ? Version : $"{Group}/{Version}";

    public string ListKindName => ListKind.Length == 0 ? Kind + "List" : ListKind;

    public string Qualified => Http.ApiError.Qualified(Group, Plural);

    public string StorageTable => Table.Length == 0 ? Qualified : Table;
}

/// <summary>A column of <c>kubectl get</c>.</summary>
/// <param name="Name">The heading.</param>
/// <param name="Type">string, integer, number, boolean or date.</param>
/// <param name="Value">The cell of an object.</param>
/// <param name="Priority">0: always shown; above: with <c>-o wide</c>.</param>
/// <param name="Description">What it says, for people.</param>
/// <param name="Format">An OpenAPI format.</param>
internal sealed record Column(
    string Name,
    string Type,
    Func<JsonObject, DateTimeOffset, JsonNode?> Value,
    int Priority = 0,
    string Description = "",
    string Format = ""
);

/// <summary>The rules for metadata.name.</summary>
internal enum NameRule
{
    /// <summary>An RFC 1123 subdomain.</summary>
    Subdomain,

    /// <summary>An RFC 1123 label.</summary>
    Label,

    /// <summary>An RFC 1035 label (services).</summary>
    Rfc1035,

    /// <summary>Any path segment (RBAC).</summary>
    PathSegment,
}
