using System.Globalization;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Schemas;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>Creates, changes and deletes objects by the rules that all resources share.</summary>
internal sealed class ObjectWriter(ObjectStore store, Admission admission, Identities identities, TimeProvider time)
{
    private const int MostAttempts = 5;

    private string Now => Json.Timestamp(time.GetUtcNow());

    /// <summary>Stores a new object. <paramref name="obj"/> is normalised and becomes the store's.</summary>
    public JsonObject Create(ResourceType type, string ns, JsonObject obj, WriteOptions options, bool viaApply = false)
    {
        JsonObject metadata = obj.Child("metadata");
        if (metadata.Str("resourceVersion") is { Length: > 0 })
            throw ApiError.Internal("resourceVersion should not be set on objects to be created");
        RequireDefinition(type, metadata.Str("name") ?? "");
        RequireNamespace(type, ns, metadata.Str("name") ?? "");
        if (ns.Length > 0)
            metadata["namespace"] = ns;
        if (string.IsNullOrEmpty(metadata.Str("name")) && metadata.Str("generateName") is { Length: > 0 } prefix)
            metadata["name"] = identities.NameFrom(prefix);
        foreach (string own in new[] { "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink" })
            metadata.Remove(own);
        metadata["uid"] = identities.Uid();
        metadata["creationTimestamp"] = Now;
        if (type.HasGeneration)
            metadata["generation"] = 1L;
        else
            metadata.Remove("generation");
        if (type is { HasStatus: true, IsCustom: true })
            obj.Remove("status");
        Complete(type, obj, isNew: true);
        admission.Check(type, obj, null);
        if (!viaApply)
            Patching.ManagedFields.Update(type, null, obj, options, null, Now);

        string name = metadata.Str("name")!;
        Table table = store.Table(type.StorageTable);
        if (options.DryRun)
        {
            if (table.Get(ns, name) is not null)
                throw ApiError.AlreadyExists(type.Group, type.Plural, name);
            return obj;
        }

        return store.Create(table, ns, name, Stored(type, obj)) is { } created
            ? Shown(type, created)
            : throw ApiError.AlreadyExists(type.Group, type.Plural, name);
    }

    /// <summary>
    /// Changes an object. <paramref name="change"/> gets a copy of the current one and gives the next; it is called again
    /// when somebody else was quicker, unless its result names a resourceVersion.
    /// </summary>
    public JsonObject Update(
        ResourceType type,
        string ns,
        string name,
        string? subresource,
        WriteOptions options,
        Func<JsonObject, JsonObject> change,
        bool viaApply = false
    )
    {
        Table table = store.Table(type.StorageTable);
        for (int attempt = 1; ; attempt++)
        {
            StoredObject current = table.Get(ns, name) ?? throw ApiError.NotFound(type.Group, type.Plural, name);
            JsonObject old = Shown(type, current);
            JsonObject next = change(old.Copy());
            Keep(type, name, old, next, subresource);
            Complete(type, next, isNew: false);
            if (!viaApply)
                Patching.ManagedFields.Update(type, old, next, options, subresource, Now);
            if (Unchanged(old, next))
                return old;
            CheckFinalizers(type, name, old, next);
            admission.Check(type, next, old);
            if (options.DryRun)
                return next;

            bool leaves =
                current.IsTerminating && next.Obj("metadata").Arr("finalizers") is not { Count: > 0 } && !HoldsContent(type, next);
            StoredObject? done = leaves
                ? store.Remove(table, current, Stored(type, next))
                : store.Replace(table, current, Stored(type, next));
            if (done is not null)
                return Shown(type, done);
            if (attempt == MostAttempts)
                throw ApiError.Conflict(type.Group, type.Plural, name, ApiError.Modified);
        }
    }

    /// <summary>Deletes an object, or marks it as being deleted while finalizers hold it. Gone: false in the second case.</summary>
    public (JsonObject Object, bool Gone) Delete(ResourceType type, string ns, string name, DeleteOptions options)
    {
        Table table = store.Table(type.StorageTable);
        while (true)
        {
            StoredObject current = table.Get(ns, name) ?? throw ApiError.NotFound(type.Group, type.Plural, name);
            CheckPreconditions(type, name, current, options);
            JsonObject next = Shown(type, current).Copy();
            JsonObject metadata = next.Child("metadata");
            if (IsDefinition(type) && !store.Table(name).Objects.IsEmpty)
                AddFinalizer(metadata, CustomResources.CleanupFinalizer);
            bool held = metadata.Arr("finalizers") is { Count: > 0 } || HoldsContent(type, next);
            if (options.DryRun)
                return (next, !held);
            if (!held)
            {
                if (store.Remove(table, current) is { } removed)
                    return (Shown(type, removed), true);
                continue;
            }

            if (current.IsTerminating)
                return (next, false);
            metadata["deletionTimestamp"] = Now;
            metadata["deletionGracePeriodSeconds"] = 0L;
            if (metadata.Int("generation") is { } generation)
                metadata["generation"] = generation + 1;
            if (type is { Group: "", Kind: "Namespace" })
                next.Child("status")["phase"] = "Terminating";
            if (store.Replace(table, current, Stored(type, next)) is { } marked)
                return (Shown(type, marked), false);
        }
    }

    public static JsonObject Shown(ResourceType type, StoredObject stored) =>
        type.FromStored is { } convert ? convert(stored.Value) : stored.Value;

    private static JsonObject Stored(ResourceType type, JsonObject obj) => type.ToStored is { } convert ? convert(obj) : obj;

    // A namespace leaves when its content has, which its spec.finalizers stand for.
    private static bool HoldsContent(ResourceType type, JsonObject obj) =>
        type is { Group: "", Kind: "Namespace" } && obj.Obj("spec").Arr("finalizers") is { Count: > 0 };

    private static bool IsDefinition(ResourceType type) => type is { Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition" };

    private static void AddFinalizer(JsonObject metadata, string finalizer)
    {
        if (metadata.Arr("finalizers") is not { } finalizers)
            metadata["finalizers"] = finalizers = [];
        if (!finalizers.Any(f => Json.AsString(f) == finalizer))
            finalizers.Add(finalizer);
    }

    private void RequireDefinition(ResourceType type, string name)
    {
        if (type.IsCustom && store.Table(BuiltIns.CrdTable).Get("", type.StorageTable) is { IsTerminating: true })
            throw ApiError.Forbidden(type.Group, type.Plural, name, "create not allowed while custom resource definition is terminating");
    }

    private void RequireNamespace(ResourceType type, string ns, string name)
    {
        if (!type.Namespaced)
            return;
        StoredObject found = store.Table("namespaces").Get("", ns) ?? throw ApiError.NotFound("", "namespaces", ns);
        if (!found.IsTerminating)
            return;
        throw ApiError.Forbidden(
            type.Group,
            type.Plural,
            name,
            $"unable to create new content in namespace {ns} because it is being terminated",
            [
                new JsonObject
                {
                    ["reason"] = "NamespaceTerminating",
                    ["message"] = $"namespace {ns} is being terminated",
                    ["field"] = "metadata.namespace",
                },
            ]
        );
    }

    private static void CheckPreconditions(ResourceType type, string name, StoredObject current, DeleteOptions options)
    {
        if (options.Uid is { } uid && uid != current.Uid)
        {
            throw ApiError.Conflict(
                type.Group,
                type.Kind,
                name,
                $"the UID in the precondition ({uid}) does not match the UID in record ({current.Uid}). The object might have been deleted and then recreated"
            );
        }

        if (options.ResourceVersion is { } rv && rv != current.ResourceVersion.ToString(CultureInfo.InvariantCulture))
        {
            throw ApiError.Conflict(
                type.Group,
                type.Kind,
                name,
                $"the ResourceVersion in the precondition ({rv}) does not match the ResourceVersion in record ({current.ResourceVersion.ToString(CultureInfo.InvariantCulture)}). The object might have been modified"
            );
        }
    }

    // As the storage of a real server words it, its keys included.
    private static string OtherUid(ResourceType type, JsonObject metadata, string wanted)
    {
        string key = string.Join(
            '/',
            new[] { type.Group, type.Plural, metadata.Str("namespace"), metadata.Str("name") }.Where(p => !string.IsNullOrEmpty(p))
        );
        return $"StorageError: invalid object, Code: 4, Key: /registry/{key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata.Str("uid")}";
    }

    /// <summary>Puts back what a writer can't change: identity, the other half of spec and status, the generation.</summary>
    private static void Keep(ResourceType type, string name, JsonObject old, JsonObject next, string? subresource)
    {
        (JsonObject? was, JsonObject? metadata) = (old.Obj("metadata")!, next.Child("metadata"));
        if (metadata.Str("resourceVersion") is { Length: > 0 } rv)
        {
            if (rv != was.Str("resourceVersion"))
                throw ApiError.Conflict(type.Group, type.Plural, name, ApiError.Modified);
        }
        else if (!type.AllowsUnconditionalUpdate)
        {
            throw ApiError.Invalid(
                type.Group,
                type.Plural,
                name,
                [Violation.Invalid("metadata.resourceVersion", JsonValue.Create(0L), "must be specified for an update")]
            );
        }

        if (metadata.Str("uid") is { Length: > 0 } uid && uid != was.Str("uid"))
            throw ApiError.Conflict(type.Group, type.Plural, name, OtherUid(type, was, uid));

        if (subresource == "status")
        {
            JsonNode? status = next["status"].Copy();
            JsonNode? managed = metadata["managedFields"].Copy();
            foreach (string key in next.Select(p => p.Key).ToList())
                next.Remove(key);
            foreach ((string key, JsonNode? value) in old)
                next[key] = value.Copy();
            if (status is null)
                next.Remove("status");
            else
                next["status"] = status;
            metadata = next.Child("metadata");
            if (managed is not null)
                metadata["managedFields"] = managed;
        }
        else if (type.HasStatus)
        {
            if (old["status"] is { } status)
                next["status"] = status.Copy();
            else
                next.Remove("status");
        }

        // A namespace's finalizers are changed by its finalize subresource alone.
        if (type is { Group: "", Kind: "Namespace" } && subresource != "finalize")
        {
            if (old.Obj("spec")?["finalizers"] is { } holding)
                next.Child("spec")["finalizers"] = holding.Copy();
            else
                next.Obj("spec")?.Remove("finalizers");
        }

        foreach (
            string own in new[]
            {
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generation",
                "selfLink",
            }
        )
        {
            if (was[own] is { } value)
                metadata[own] = value.Copy();
            else
                metadata.Remove(own);
        }

        if (type.HasGeneration && DiffersBeyondMetadata(type, old, next))
            metadata["generation"] = (was.Int("generation") ?? 0) + 1;
    }

    private static bool DiffersBeyondMetadata(ResourceType type, JsonObject old, JsonObject next)
    {
        bool Counts(string field) => field != "metadata" && !(type.HasStatus && field == "status");
        return next.Any(p => Counts(p.Key) && !Json.Same(p.Value, old[p.Key])) || old.Any(p => Counts(p.Key) && !next.ContainsKey(p.Key));
    }

    /// <summary>What the server itself adds to some kinds.</summary>
    private void Complete(ResourceType type, JsonObject obj, bool isNew)
    {
        switch (type)
        {
            case { Group: "", Kind: "Namespace" }:
                JsonObject metadata = obj.Obj("metadata")!;
                if (metadata.Str("name") is { } name)
                    metadata.Child("labels")["kubernetes.io/metadata.name"] = name;
                JsonObject spec = obj.Child("spec");
                if (!metadata.ContainsKey("deletionTimestamp"))
                {
                    if (isNew)
                        spec["finalizers"] = new JsonArray("kubernetes");
                    obj.Child("status")["phase"] = "Active";
                }

                break;
            case var _ when IsDefinition(type):
                CustomResources.ApplyDefaults(obj);
                if (obj.Obj("spec").Arr("versions")?.OfType<JsonObject>().Any(v => v.Flag("storage")) == true)
                    obj["status"] = CustomResources.AcceptedStatus(obj, Now);
                break;
        }
    }

    private static void CheckFinalizers(ResourceType type, string name, JsonObject old, JsonObject next)
    {
        if (old.Obj("metadata").Str("deletionTimestamp") is null)
            return;
        HashSet<string?> before = old.Obj("metadata").Arr("finalizers")?.Select(Json.AsString).ToHashSet() ?? [];
        var added = (next.Obj("metadata").Arr("finalizers")?.Select(Json.AsString) ?? []).Where(f => !before.Contains(f)).ToList();
        if (added.Count == 0)
            return;
        throw ApiError.Invalid(
            type.Group,
            type.Kind,
            name,
            [
                Violation.Forbidden(
                    "metadata.finalizers",
                    $"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{string.Join(", ", added.Select(f => $"\"{f}\""))}}}"
                ),
            ]
        );
    }

    // The time of a managedFields entry alone is no change.
    private static bool Unchanged(JsonObject old, JsonObject next)
    {
        (JsonObject? before, JsonObject? after) = (old.Obj("metadata")!, next.Obj("metadata")!);
        return SameBut(old, next, "metadata")
            && SameBut(before, after, "managedFields")
            && SameManagers(before.Arr("managedFields"), after.Arr("managedFields"));
    }

    private static bool SameManagers(JsonArray? before, JsonArray? after)
    {
        if ((before?.Count ?? 0) != (after?.Count ?? 0))
            return false;
        for (int i = 0; i < (before?.Count ?? 0); i++)
        {
            if (before![i] is not JsonObject a || after![i] is not JsonObject b || !SameBut(a, b, "time"))
                return false;
        }

        return true;
    }

    private static bool SameBut(JsonObject a, JsonObject b, string except)
    {
        foreach ((string name, JsonNode? value) in a)
        {
            if (name != except && !(b.TryGetPropertyValue(name, out JsonNode? other) && Json.Same(value, other)))
                return false;
        }

        return b.All(p => p.Key == except || a.ContainsKey(p.Key));
    }
}
