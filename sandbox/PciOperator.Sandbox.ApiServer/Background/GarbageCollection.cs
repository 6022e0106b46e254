using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Background;

/// <summary>
/// Deletes objects whose owners are all gone, as kube-controller-manager's garbage collector does; here at once, when the
/// last owner goes. Owners that never were are not looked for.
/// </summary>
internal sealed class GarbageCollection(ObjectStore store, Catalog catalog, ObjectWriter writer)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, HashSet<(Table Table, string Namespace, string Name)>> _dependents = new(StringComparer.Ordinal);

    public void OnChanged(Table table, Change change)
    {
        StoredObject subject = change.Subject;
        (Table table, string Namespace, string Name) dependent = (table, subject.Namespace, subject.Name);
        if (change.New is not null)
        {
            foreach (string owner in subject.OwnerUids)
                Note(owner, dependent);
            return;
        }

        foreach (string owner in subject.OwnerUids)
            Forget(owner, dependent);
        foreach ((Table dependentTable, string ns, string name) in Take(subject.Uid))
            Release(dependentTable, ns, name, subject.Uid, orphan: false);
    }

    /// <summary>Takes an owner off its dependents, so that they stay when it goes.</summary>
    public void Orphan(string ownerUid)
    {
        foreach ((Table table, string ns, string name) in Take(ownerUid))
            Release(table, ns, name, ownerUid, orphan: true);
    }

    private void Release(Table table, string ns, string name, string ownerUid, bool orphan)
    {
        if (table.Get(ns, name) is not { } stored || catalog.OfTable(table.Name) is not { } type)
            return;
        List<JsonObject> others =
            stored.Value.Obj("metadata").Arr("ownerReferences")?.OfType<JsonObject>().Where(o => o.Str("uid") != ownerUid).ToList() ?? [];
        try
        {
            if (!orphan && !others.Exists(o => Lives(o, ns)))
            {
                writer.Delete(type, ns, name, new DeleteOptions(Uid: stored.Uid));
                return;
            }

            writer.Update(
                type,
                ns,
                name,
                null,
                new WriteOptions { FieldManager = "garbage-collector" },
                current =>
                {
                    IEnumerable<JsonObject> left = current
                        .Obj("metadata")
                        .Arr("ownerReferences")!
                        .OfType<JsonObject>()
                        .Where(o => o.Str("uid") != ownerUid);
                    current.Child("metadata")["ownerReferences"] = new JsonArray([.. left.Select(o => o.Copy())]);
                    MetadataRules.Prune(current.Child("metadata"), []);
                    return current;
                }
            );
        }
        catch (ApiError e) when (e.Code is 404 or 409)
        {
            // It is gone, or another of its name is there.
        }
    }

    private bool Lives(JsonObject owner, string ns)
    {
        string version = owner.Str("apiVersion") ?? "";
        int slash = version.IndexOf('/', StringComparison.Ordinal);
        ResourceType? type = catalog.FindKind(slash < 0 ? "" : version[..slash], version[(slash + 1)..], owner.Str("kind") ?? "");
        return type is not null
            && store.Table(type.StorageTable).Get(type.Namespaced ? ns : "", owner.Str("name") ?? "")?.Uid == owner.Str("uid");
    }

    private void Note(string owner, (Table, string, string) dependent)
    {
        lock (_lock)
        {
            if (!_dependents.TryGetValue(owner, out HashSet<(Table Table, string Namespace, string Name)>? set))
                _dependents[owner] = set = [];
            set.Add(dependent);
        }
    }

    private void Forget(string owner, (Table, string, string) dependent)
    {
        lock (_lock)
        {
            if (
                _dependents.TryGetValue(owner, out HashSet<(Table Table, string Namespace, string Name)>? set)
                && set.Remove(dependent)
                && set.Count == 0
            )
            {
                _dependents.Remove(owner);
            }
        }
    }

    private HashSet<(Table Table, string Namespace, string Name)> Take(string owner)
    {
        lock (_lock)
            return _dependents.Remove(owner, out HashSet<(Table Table, string Namespace, string Name)>? set) ? set : [];
    }
}
