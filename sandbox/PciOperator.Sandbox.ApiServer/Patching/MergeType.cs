using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Schemas;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>How values merge and who owns them: from a custom resource's schema, or from what is known of built-in kinds.</summary>
internal abstract class MergeType
{
    public static MergeType Of(ResourceType type) => type.Schema is { } schema ? new RootType(schema) : BuiltInType.Root;

    /// <summary>The type of an object's member.</summary>
    public abstract MergeType Field(string name);

    /// <summary>Whether the member is declared, and not one of a map's.</summary>
    public abstract bool IsNamed(string name);

    /// <summary>Whether objects are replaced as a whole.</summary>
    public virtual bool IsAtomicMap => false;

    public virtual ListType List => ListType.Atomic;

    public virtual IReadOnlyList<string> Keys => [];

    public virtual MergeType Item => Untyped.Instance;

    /// <summary>The value that an item's missing key stands for.</summary>
    public virtual JsonNode? KeyDefault(string key) => null;

    /// <summary>The path element of a list's item; null when the item has no key.</summary>
    public string? Element(JsonNode? item)
    {
        if (List == ListType.Set)
            return "v:" + Json.Text(item);
        if (item is not JsonObject obj)
            return null;
        var key = new JsonObject();
        foreach (string name in Keys.Order(StringComparer.Ordinal))
        {
            JsonNode? value = obj[name] ?? KeyDefault(name);
            if (value is not null)
                key[name] = value.Copy();
        }

        return key.Count == 0 ? null : "k:" + Json.Text(key);
    }

    /// <summary>Values of unknown type: objects merge, lists don't.</summary>
    private sealed class Untyped : MergeType
    {
        public static readonly Untyped Instance = new();

        public override MergeType Field(string name) => this;

        public override bool IsNamed(string name) => false;
    }

    private class SchemaType(Schema schema) : MergeType
    {
        public override bool IsAtomicMap => schema.AtomicMap;

        public override ListType List => schema.ListType;

        public override IReadOnlyList<string> Keys => schema.ListMapKeys;

        public override MergeType Item => schema.Items is { } items ? new SchemaType(items) : Untyped.Instance;

        public override MergeType Field(string name) => schema.Field(name) is { } field ? new SchemaType(field) : Untyped.Instance;

        public override bool IsNamed(string name) => schema.Properties.ContainsKey(name);

        public override JsonNode? KeyDefault(string key) => schema.Items?.Field(key)?.Default;
    }

    private sealed class RootType(Schema schema) : SchemaType(schema)
    {
        public override MergeType Field(string name) => name == "metadata" ? BuiltInType.Metadata : base.Field(name);

        public override bool IsNamed(string name) => name is "metadata" or "apiVersion" or "kind" || base.IsNamed(name);
    }

    /// <summary>
    /// A value of a built-in kind, known by the names of the fields that lead to it (their listType, listMapKeys and
    /// patchMergeKey in Kubernetes' OpenAPI).
    /// </summary>
    internal sealed class BuiltInType : MergeType
    {
        public static readonly BuiltInType Root = new("");
        public static readonly BuiltInType Metadata = new("metadata");

        private static readonly Dictionary<string, string[]> MapLists = new(StringComparer.Ordinal)
        {
            ["addresses"] = ["type"],
            ["conditions"] = ["type"],
            ["containers"] = ["name"],
            ["containerStatuses"] = [],
            ["devices"] = ["driver", "device", "pool"],
            ["env"] = ["name"],
            ["ephemeralContainers"] = ["name"],
            ["hostAliases"] = ["ip"],
            ["imagePullSecrets"] = ["name"],
            ["initContainers"] = ["name"],
            ["matchConditions"] = ["name"],
            ["ownerReferences"] = ["uid"],
            ["podIPs"] = ["ip"],
            ["reservedFor"] = ["uid"],
            ["resourceClaims"] = ["name"],
            ["resourceClaimStatuses"] = ["name"],
            ["schedulingGates"] = ["name"],
            ["secrets"] = ["name"],
            ["topologySpreadConstraints"] = ["topologyKey", "whenUnsatisfiable"],
            ["variables"] = ["name"],
            ["volumeDevices"] = ["devicePath"],
            ["volumeMounts"] = ["mountPath"],
            ["volumes"] = ["name"],
            ["webhooks"] = ["name"],
        };

        private readonly string _name;
        private readonly string _parent;

        private BuiltInType(string name, string parent = "") => (_name, _parent) = (name, parent);

        public override bool IsAtomicMap => _name is "nodeSelector" or "selector";

        public override ListType List =>
            _name is "finalizers" or "podCIDRs" or "validationActions" ? ListType.Set
            : Keys.Count > 0 ? ListType.Map
            : ListType.Atomic;

        public override IReadOnlyList<string> Keys =>
            _name == "ports"
                ? _parent is "containers" or "initContainers" or "ephemeralContainers"
                    ? ["containerPort", "protocol"]
                    : ["port", "protocol"]
                : MapLists.GetValueOrDefault(_name) ?? [];

        /// <summary>The one key by which a strategic merge patch finds an item; null where the list is replaced.</summary>
        public string? PatchKey => List == ListType.Map && _name is not "devices" ? Keys[0] : null;

        // An item is seen as its list's name, so that what is in it knows where it is.
        public override MergeType Item => new BuiltInType("", _name);

        public override MergeType Field(string name) => new BuiltInType(name, _name.Length == 0 ? _parent : _name);

        public override bool IsNamed(string name) => true;

        public override JsonNode? KeyDefault(string key) => key == "protocol" ? "TCP" : null;
    }
}
