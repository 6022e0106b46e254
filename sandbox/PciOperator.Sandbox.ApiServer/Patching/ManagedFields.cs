using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>metadata.managedFields: who set which field, by applying it or by changing it.</summary>
internal sealed class ManagedFields
{
    /// <summary>Fields that nobody owns.</summary>
    private static readonly FieldSet Unowned = FieldSet.Of(
        "f:apiVersion",
        "f:kind",
        "f:metadata",
        "f:metadata f:name",
        "f:metadata f:namespace",
        "f:metadata f:creationTimestamp",
        "f:metadata f:selfLink",
        "f:metadata f:uid",
        "f:metadata f:clusterName",
        "f:metadata f:generation",
        "f:metadata f:managedFields",
        "f:metadata f:resourceVersion"
    );

    /// <summary>Where kubectl keeps what it applied on the client's side.</summary>
    public const string LastAppliedAnnotation = "kubectl.kubernetes.io/last-applied-configuration";

    private static readonly FieldSet OutsideMain = FieldSet.Of("f:status");
    private static readonly FieldSet OutsideStatus = FieldSet.Of("f:spec", "f:metadata");
    private static readonly FieldSet Nothing = new();

    private readonly List<Entry> _entries = [];
    private readonly FieldSet _ignored;
    private readonly string _now;

    private sealed record Entry(string Manager, string Operation, string ApiVersion, string? Subresource, string? Time, FieldSet Fields)
    {
        public bool Is(Entry other) =>
            (Manager, Operation, Subresource) == (other.Manager, other.Operation, other.Subresource)
            && (Operation == "Apply" || ApiVersion == other.ApiVersion);
    }

    private ManagedFields(ResourceType type, JsonObject? live, string? subresource, string now)
    {
        _now = now;
        _ignored =
            subresource == "status" ? OutsideStatus
            : type.HasStatus && type.IsCustom ? OutsideMain
            : Nothing;
        foreach (JsonObject entry in live.Obj("metadata").Arr("managedFields")?.OfType<JsonObject>() ?? [])
        {
            _entries.Add(
                new Entry(
                    entry.Str("manager") ?? "",
                    entry.Str("operation") ?? "",
                    entry.Str("apiVersion") ?? "",
                    entry.Str("subresource"),
                    entry.Str("time"),
                    FieldSet.Parse(entry.Obj("fieldsV1"))
                )
            );
        }
    }

    /// <summary>
    /// Notes in <paramref name="next"/> who made it differ from <paramref name="old"/> by a create, an update or a patch.
    /// </summary>
    public static void Update(ResourceType type, JsonObject? old, JsonObject next, WriteOptions options, string? subresource, string now)
    {
        // A writer may rewrite the managers (kubectl does, going over to server-side apply) or, by [{}], forget them.
        JsonArray? sent = next.Obj("metadata").Arr("managedFields");
        bool forgotten = sent is { Count: 1 } && sent[0] is JsonObject { Count: 0 };
        var fields = new ManagedFields(type, sent is { Count: > 0 } && subresource is null ? next : old, subresource, now);
        next.Child("metadata").Remove("managedFields");
        if (forgotten)
            return;

        var writer = new Entry(options.FieldManager, "Update", type.GroupVersion, subresource, now, Nothing);
        // A new object of a built-in type has its spec and status before anybody fills them.
        JsonObject? before = old ?? (type.IsCustom ? null : new JsonObject { ["spec"] = new JsonObject(), ["status"] = new JsonObject() });
        Comparison change = TypedValues.Compare(before, next, MergeType.Of(type));
        fields.Take(writer, change, force: true);
        Entry? own = fields._entries.FirstOrDefault(e => e.Is(writer));
        FieldSet set = (own?.Fields ?? Nothing)
            .Difference(change.Removed)
            .Union(change.Modified)
            .Union(change.Added)
            .WithoutSubtrees(fields._ignored);
        fields.Set(writer, set.Difference(Unowned));
        fields.WriteTo(next);
    }

    /// <summary>
    /// Lays a configuration over the live object as server-side apply does: others' fields are refused or, by force,
    /// taken over; what this manager applied before and doesn't now is removed.
    /// </summary>
    /// <exception cref="ApiError">409, with the fields and their managers.</exception>
    public static JsonObject Apply(
        ResourceType type,
        JsonObject live,
        JsonObject configuration,
        WriteOptions options,
        string? subresource,
        string now
    )
    {
        var fields = new ManagedFields(type, live, subresource, now);
        var merge = MergeType.Of(type);
        JsonObject before = live.Copy();
        before.Obj("metadata")?.Remove("managedFields");
        var applier = new Entry(options.FieldManager, "Apply", type.GroupVersion, subresource, now, Nothing);
        FieldSet set = TypedValues.Fields(configuration, merge).WithoutSubtrees(fields._ignored);
        FieldSet? last = fields._entries.FirstOrDefault(e => e.Is(applier))?.Fields;

        var next = (JsonObject)TypedValues.Merge(before, configuration, merge)!;
        fields.Set(applier, set.Difference(Unowned));
        if (last is not null)
        {
            FieldSet owned = fields._entries.Aggregate(set, (all, entry) => all.Union(entry.Fields));
            TypedValues.Prune(next, merge, last, owned);
        }

        fields.Take(applier, TypedValues.Compare(before, next, merge), options.Force, LastApplied(type, before, options));
        fields.WriteTo(next);
        return next;
    }

    /// <summary>
    /// What kubectl applied on the client's side and what is still so: its own, when it goes over to server-side apply.
    /// </summary>
    private static FieldSet LastApplied(ResourceType type, JsonObject live, WriteOptions options)
    {
        if (options.FieldManager != "kubectl" || live.Obj("metadata").Obj("annotations").Str(LastAppliedAnnotation) is not { } text)
            return Nothing;
        try
        {
            JsonObject applied = Json.ParseObject(text);
            Comparison since = TypedValues.Compare(applied, live, MergeType.Of(type));
            return TypedValues.Fields(applied, MergeType.Of(type)).Difference(since.Modified).Difference(since.Removed);
        }
        catch (System.Text.Json.JsonException)
        {
            return Nothing;
        }
    }

    /// <summary>
    /// Others lose what changed under them, or, without force, keep it and refuse; what is <paramref name="free"/> is never refused.
    /// </summary>
    private void Take(Entry writer, Comparison change, bool force, FieldSet? free = null)
    {
        FieldSet changed = change.Modified.Union(change.Added).WithoutSubtrees(_ignored);
        FieldSet removed = change.Removed.WithoutSubtrees(_ignored);
        var conflicts = _entries
            .Where(e => !e.Is(writer))
            .Select(e => (Entry: e, Fields: e.Fields.Intersection(changed).Difference(free ?? Nothing)))
            .Where(c => !c.Fields.IsEmpty)
            .ToList();
        if (!force && conflicts.Count > 0)
            throw Refusal(conflicts);
        for (int i = _entries.Count - 1; i >= 0; i--)
        {
            Entry entry = _entries[i];
            if (entry.Is(writer))
                continue;
            FieldSet left = entry.Fields.Difference(changed).Difference(removed);
            if (left.IsEmpty)
                _entries.RemoveAt(i);
            else
                _entries[i] = entry with { Fields = left };
        }
    }

    private void Set(Entry writer, FieldSet set)
    {
        int at = _entries.FindIndex(e => e.Is(writer));
        if (at >= 0)
        {
            // An entry that stays as it is keeps its time.
            bool same = Json.Same(_entries[at].Fields.ToJson(), set.ToJson());
            _entries[at] = writer with { Fields = set, Time = same ? _entries[at].Time : _now };
            if (set.IsEmpty && writer.Operation == "Update")
                _entries.RemoveAt(at);
        }
        else if (!set.IsEmpty || writer.Operation == "Apply")
        {
            _entries.Add(writer with { Fields = set });
        }
    }

    private static ApiError Refusal(List<(Entry Entry, FieldSet Fields)> conflicts)
    {
        var causes = new JsonArray();
        var texts = new List<string>();
        int count = 0;
        foreach ((Entry? entry, FieldSet? fields) in conflicts.OrderBy(c => c.Entry.Manager, StringComparer.Ordinal))
        {
            string who =
                $"\"{entry.Manager}\""
                + (entry.Subresource is null ? "" : $" with subresource \"{entry.Subresource}\"")
                + (entry.Operation == "Update" ? $" using {entry.ApiVersion}" : "");
            var paths = fields.Paths().ToList();
            foreach (string path in paths)
            {
                causes.Add(
                    new JsonObject
                    {
                        ["reason"] = "FieldManagerConflict",
                        ["message"] = $"conflict with {who}",
                        ["field"] = path,
                    }
                );
            }

            texts.Add(paths.Count == 1 ? $"conflict with {who}: {paths[0]}" : $"conflicts with {who}:\n- {string.Join("\n- ", paths)}");
            count += paths.Count;
        }

        return new ApiError(
            409,
            "Conflict",
            $"Apply failed with {count} conflict{(count == 1 ? "" : "s")}: {string.Join("\n", texts)}",
            new JsonObject { ["causes"] = causes }
        );
    }

    private void WriteTo(JsonObject next)
    {
        var array = new JsonArray();
        IOrderedEnumerable<Entry> ordered = _entries
            .Where(e => !e.Fields.IsEmpty || e.Operation == "Apply")
            .OrderBy(e => e.Operation, StringComparer.Ordinal)
            .ThenBy(e => e.Time, StringComparer.Ordinal)
            .ThenBy(e => e.Manager, StringComparer.Ordinal)
            .ThenBy(e => e.ApiVersion, StringComparer.Ordinal)
            .ThenBy(e => e.Subresource, StringComparer.Ordinal);
        foreach (Entry entry in ordered)
        {
            var json = new JsonObject
            {
                ["manager"] = entry.Manager,
                ["operation"] = entry.Operation,
                ["apiVersion"] = entry.ApiVersion,
                ["time"] = entry.Time,
                ["fieldsType"] = "FieldsV1",
                ["fieldsV1"] = entry.Fields.ToJson(),
            };
            if (entry.Subresource is not null)
                json["subresource"] = entry.Subresource;
            array.Add(json);
        }

        if (array.Count > 0)
            next.Child("metadata")["managedFields"] = array;
        else
            next.Child("metadata").Remove("managedFields");
    }
}
