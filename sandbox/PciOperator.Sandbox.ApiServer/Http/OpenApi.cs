using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>
/// OpenAPI v3 by group and version: the schemas of custom resources as their definitions give them, for
/// <c>kubectl explain</c>, and the parameters of PATCH, by which kubectl learns that the server validates fields.
/// </summary>
internal sealed class OpenApi(Catalog catalog)
{
    private const string MetaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1.";

    /// <summary>An empty swagger 2.0 document as gnostic's protobuf message; kubectl reads no other form of v2.</summary>
    public static readonly byte[] EmptyV2Protobuf = [0x0a, 0x03, (byte)'2', (byte)'.', (byte)'0'];

    public static JsonObject EmptyV2() =>
        new()
        {
            ["swagger"] = "2.0",
            ["info"] = Info(),
            ["paths"] = new JsonObject(),
            ["definitions"] = new JsonObject(),
        };

    /// <summary>The answer to a path below /openapi/v3; null where there is none.</summary>
    public JsonObject? Answer(string path)
    {
        string rest = path["/openapi/v3".Length..].Trim('/');
        if (rest.Length == 0)
            return Index();
        var types = catalog.All.Where(t => Document(t) == rest).ToList();
        return types.Count == 0 ? null : Describe(types);
    }

    private static string Document(ResourceType type) =>
        type.Group.Length == 0 ? $"api/{type.Version}" : $"apis/{type.Group}/{type.Version}";

    private JsonObject Index()
    {
        var paths = new JsonObject();
        // The hash changes whenever what is served does, so that no client keeps an old document.
        foreach (string name in catalog.All.Select(Document).Distinct(StringComparer.Ordinal))
            paths[name] = new JsonObject { ["serverRelativeURL"] = $"/openapi/v3/{name}?hash={catalog.Generation:X8}" };
        return new JsonObject { ["paths"] = paths };
    }

    private static JsonObject Describe(List<ResourceType> types)
    {
        var schemas = new JsonObject { [MetaPrefix + "ObjectMeta"] = ObjectMeta() };
        var paths = new JsonObject();
        foreach (ResourceType type in types)
        {
            schemas[SchemaName(type)] = SchemaOf(type);
            foreach ((string path, JsonObject operations) in Paths(type))
                paths[path] = operations;
        }

        return new JsonObject
        {
            ["openapi"] = "3.0.0",
            ["info"] = Info(),
            ["paths"] = paths,
            ["components"] = new JsonObject { ["schemas"] = schemas },
        };
    }

    private static JsonObject Info() => new() { ["title"] = "Kubernetes (PciOperator sandbox)", ["version"] = "v1" };

    // The group's name backwards, as definitions are named.
    private static string SchemaName(ResourceType type) =>
        type.Group.Length == 0
            ? $"io.k8s.api.core.{type.Version}.{type.Kind}"
            : $"{string.Join('.', type.Group.Split('.').Reverse())}.{type.Version}.{type.Kind}";

    private static JsonObject SchemaOf(ResourceType type)
    {
        JsonObject schema =
            type.SchemaJson?.Copy()
            ?? new JsonObject
            {
                ["type"] = "object",
                ["properties"] = new JsonObject { ["spec"] = Free(), ["status"] = Free() },
                ["x-kubernetes-preserve-unknown-fields"] = true,
            };
        JsonObject properties = schema.Child("properties");
        Describe(properties, "apiVersion", "The group and version of this object's form.");
        Describe(properties, "kind", "The kind of this object.");
        properties["metadata"] = new JsonObject
        {
            ["description"] = "The object's name, labels and other metadata.",
            ["allOf"] = new JsonArray(new JsonObject { ["$ref"] = $"#/components/schemas/{MetaPrefix}ObjectMeta" }),
        };
        schema["x-kubernetes-group-version-kind"] = new JsonArray(Kind(type));
        return schema;

        static JsonObject Free() => new() { ["type"] = "object", ["x-kubernetes-preserve-unknown-fields"] = true };
        static void Describe(JsonObject properties, string name, string description)
        {
            if (properties.Obj(name).Str("description") is null)
                properties[name] = new JsonObject { ["type"] = "string", ["description"] = description };
        }
    }

    private static JsonObject Kind(ResourceType type) =>
        new()
        {
            ["group"] = type.Group,
            ["kind"] = type.Kind,
            ["version"] = type.Version,
        };

    private static IEnumerable<(string Path, JsonObject Operations)> Paths(ResourceType type)
    {
        string root = type.Group.Length == 0 ? $"/api/{type.Version}" : $"/apis/{type.Group}/{type.Version}";
        string collection = type.Namespaced ? $"{root}/namespaces/{{namespace}}/{type.Plural}" : $"{root}/{type.Plural}";
        yield return (
            collection,
            new JsonObject
            {
                ["get"] = Operation(type, "list"),
                ["post"] = Operation(type, "post", WriteParameters()),
                ["delete"] = Operation(type, "deletecollection"),
            }
        );
        foreach (string suffix in type.HasStatus ? ["", "/status"] : new[] { "" })
        {
            var item = new JsonObject
            {
                ["get"] = Operation(type, "get"),
                ["put"] = Operation(type, "put", WriteParameters()),
                ["patch"] = Operation(type, "patch", WriteParameters()),
            };
            if (suffix.Length == 0)
                item["delete"] = Operation(type, "delete");
            yield return ($"{collection}/{{name}}{suffix}", item);
        }
    }

    private static JsonObject Operation(ResourceType type, string action, JsonArray? parameters = null)
    {
        var operation = new JsonObject
        {
            ["operationId"] = $"{action}{type.Kind}",
            ["responses"] = new JsonObject { ["200"] = new JsonObject { ["description"] = "OK" } },
            ["x-kubernetes-action"] = action,
            ["x-kubernetes-group-version-kind"] = Kind(type),
        };
        if (parameters is not null)
            operation["parameters"] = parameters;
        return operation;
    }

    private static JsonArray WriteParameters() =>
        new(
            Parameter("dryRun", "All: check everything, store nothing."),
            Parameter("fieldManager", "Who makes this change."),
            Parameter("fieldValidation", "Ignore, Warn or Strict: what becomes of unknown and duplicate fields.")
        );

    private static JsonObject Parameter(string name, string description) =>
        new()
        {
            ["name"] = name,
            ["in"] = "query",
            ["description"] = description,
            ["schema"] = new JsonObject { ["type"] = "string", ["uniqueItems"] = true },
        };

    private static JsonObject ObjectMeta()
    {
        JsonObject Text(string description) => new() { ["type"] = "string", ["description"] = description };
        JsonObject Number(string description) =>
            new()
            {
                ["type"] = "integer",
                ["format"] = "int64",
                ["description"] = description,
            };
        JsonObject Map(string description) =>
            new()
            {
                ["type"] = "object",
                ["description"] = description,
                ["additionalProperties"] = new JsonObject { ["type"] = "string" },
            };
        JsonObject List(string description, string of) =>
            new()
            {
                ["type"] = "array",
                ["description"] = description,
                ["items"] = new JsonObject { ["type"] = of },
            };
        return new JsonObject
        {
            ["type"] = "object",
            ["description"] = "What all objects have in common.",
            ["properties"] = new JsonObject
            {
                ["annotations"] = Map("Notes for programs; not for selecting by."),
                ["creationTimestamp"] = Text("When the server stored the object. Set by the server."),
                ["deletionGracePeriodSeconds"] = Number("How long the object may take to go. Set by the server."),
                ["deletionTimestamp"] = Text("When the object was asked to go; it goes when it has no finalizers. Set by the server."),
                ["finalizers"] = List("Who must finish before the object can go.", "string"),
                ["generateName"] = Text("The beginning of a name that the server completes."),
                ["generation"] = Number("Counts changes of what is wanted. Set by the server."),
                ["labels"] = Map("Names and values to select objects by."),
                ["managedFields"] = List("Who set which fields. Set by the server.", "object"),
                ["name"] = Text("The name, unique in the namespace."),
                ["namespace"] = Text("Where the name is unique."),
                ["ownerReferences"] = List("Objects with which this one goes.", "object"),
                ["resourceVersion"] = Text(
                    "The version of the object as stored; send it back to change just that version. Set by the server."
                ),
                ["selfLink"] = Text("Not used any more."),
                ["uid"] = Text("Unique in time and space. Set by the server."),
            },
        };
    }
}
