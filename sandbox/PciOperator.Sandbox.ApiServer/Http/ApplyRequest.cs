using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Patching;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Schemas;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Server-side apply: an object that isn't there is created.</summary>
internal sealed class ApplyRequest(ApiCore core, ResourceType type, RequestPath path, WriteOptions options)
{
    private readonly string? _subresource = path.Subresource.Length == 0 ? null : path.Subresource;

    public (JsonObject Object, bool Created) Run(byte[] body, HttpRequest request)
    {
        if (request.Query["fieldManager"].ToString().Length == 0)
            throw ApiError.Invalid("meta.k8s.io", "PatchOptions", "", [Violation.Required("fieldManager", "is required for apply patch")]);
        var duplicates = new List<string>();
        JsonObject configuration = Parse(body, duplicates);
        if (configuration.Obj("metadata").Arr("managedFields") is not null)
            throw ApiError.BadRequest("metadata.managedFields must be nil");
        if (duplicates.Count > 0 && options.FieldValidation != FieldValidation.Ignore)
        {
            throw ApiError.BadRequest(
                $"error decoding YAML: {string.Join(", ", duplicates.Select(d => $"key \"{d}\" already set in map"))}"
            );
        }

        CheckTypes(configuration);

        Table table = core.Store.Table(type.StorageTable);
        if (table.Get(path.Namespace, path.Name) is null && _subresource is null)
        {
            try
            {
                return (Create(configuration), true);
            }
            catch (ApiError e) when (e.Reason == "AlreadyExists")
            {
                // Somebody else was quicker: apply to theirs.
            }
        }

        return (
            core.Writer.Update(type, path.Namespace, path.Name, _subresource, options, live => Lay(live, configuration), viaApply: true),
            false
        );
    }

    private JsonObject Parse(byte[] body, List<string> duplicates)
    {
        JsonObject configuration;
        try
        {
            configuration = RequestBody.Object(
                body,
                body.AsSpan().TrimStart(" \t\r\n"u8) is [(byte)'{', ..] ? "application/json" : "application/yaml",
                duplicates
            );
        }
        catch (ApiError e)
        {
            throw ApiError.BadRequest($"error decoding YAML: {e.Message}");
        }

        if (configuration.Str("apiVersion") != type.GroupVersion || configuration.Str("kind") != type.Kind)
        {
            string version = configuration.Str("apiVersion") is { Length: > 0 } stated ? stated : "/";
            throw ApiError.BadRequest($"invalid object type: {version}, Kind={configuration.Str("kind")}");
        }

        if (MetadataRules.TypeError(configuration.Child("metadata")) is { } error)
            throw ApiError.BadRequest(error);
        ResourceRequests.CheckIdentity(configuration, path);
        return configuration;
    }

    private JsonObject Create(JsonObject configuration)
    {
        if (
            configuration.Obj("metadata").Str("resourceVersion") is { Length: > 0 }
            || configuration.Obj("metadata").Str("uid") is { Length: > 0 }
        )
        {
            throw ApiError.NotFound(type.Group, type.Plural, path.Name);
        }

        var empty = new JsonObject
        {
            ["apiVersion"] = type.GroupVersion,
            ["kind"] = type.Kind,
            ["metadata"] = new JsonObject { ["name"] = path.Name },
        };
        return core.Writer.Create(type, path.Namespace, Lay(empty, configuration), options, viaApply: true);
    }

    private JsonObject Lay(JsonObject live, JsonObject configuration)
    {
        JsonObject next = ManagedFields.Apply(type, live, configuration, options, _subresource, Json.Timestamp(core.Now));
        // Kept in step, so that one may go back to applying on the client's side.
        if (
            options.FieldManager == "kubectl"
            && live.Obj("metadata").Obj("annotations").Str(ManagedFields.LastAppliedAnnotation) is not null
        )
        {
            next.Child("metadata").Child("annotations")[ManagedFields.LastAppliedAnnotation] = Json.Text(Json.Sorted(configuration)) + "\n";
        }

        MetadataRules.Prune(next.Child("metadata"), []);
        if (type.Schema is { } schema)
            Defaulting.Apply(next, schema);
        return next;
    }

    private void CheckTypes(JsonObject configuration)
    {
        var problems = new List<string>();
        ApplyTypes.CheckMetadata(configuration, problems);
        if (type.Schema is { } schema)
            ApplyTypes.Check(configuration, schema, "", problems);
        if (problems.Count == 0)
            return;
        throw ApiError.Internal(
            $"failed to create typed patch object ({configuration.Obj("metadata").Str("namespace")}/{path.Name}; {type.GroupVersion}, Kind={type.Kind}): {(problems.Count == 1 ? problems[0] : $"errors:\n  {string.Join("\n  ", problems)}")}"
        );
    }
}
