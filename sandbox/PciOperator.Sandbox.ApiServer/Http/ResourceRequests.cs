using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Patching;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>The verbs on resources.</summary>
internal sealed class ResourceRequests(ApiCore core)
{
    private const string CustomPatchTypes = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    private const string PatchTypes =
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

    private readonly ListRequests _lists = new(core);
    private readonly WatchRequests _watches = new(core);
    private readonly ObjectViews _views = new(core);

    public async Task HandleAsync(HttpContext context, RequestPath path)
    {
        if ((path.Group, path.Version) == (AccessReviews.Group, AccessReviews.Version))
        {
            await ReviewAsync(context, path);
            return;
        }

        ResourceType type = core.Catalog.Find(path.Group, path.Version, path.Plural) ?? throw ApiError.NoSuchPath();
        if (path.Namespace.Length > 0 && !type.Namespaced)
            throw ApiError.NoSuchResource();
        if (path.Name.Length > 0 && type.Namespaced && path.Namespace.Length == 0)
            throw ApiError.NoSuchResource();
        CheckSubresource(type, path);

        string method = context.Request.Method;
        if (path.Name.Length == 0)
        {
            await (
                method switch
                {
                    "GET" when IsTrue(context.Request.Query["watch"]) => _watches.HandleAsync(context, type, path.Namespace),
                    "GET" => _lists.HandleAsync(context, type, path.Namespace),
                    "POST" => CreateAsync(context, type, path.Namespace),
                    "DELETE" => DeleteCollectionAsync(context, type, path.Namespace),
                    "PUT" or "PATCH" when type.IsCustom => throw ApiError.BadRequest("name must be provided"),
                    _ => throw ApiError.MethodNotAllowed(),
                }
            );
            return;
        }

        await (
            method switch
            {
                "GET" => GetAsync(context, type, path),
                "PUT" => ReplaceAsync(context, type, path),
                "PATCH" => PatchAsync(context, type, path),
                "DELETE" when path.Subresource.Length == 0 => DeleteAsync(context, type, path),
                _ => throw ApiError.MethodNotAllowed(),
            }
        );
    }

    public static bool IsTrue(string? value) => value is "true" or "1" or "True" or "TRUE";

    private static void CheckSubresource(ResourceType type, RequestPath path)
    {
        string subresource = path.Subresource;
        bool known =
            subresource.Length == 0
            || (subresource == "status" && type.HasStatus)
            || (subresource == "finalize" && type is { Group: "", Kind: "Namespace" });
        if (!known)
            throw type.IsCustom ? ApiError.NotFound(type.Group, type.Plural, path.Name) : ApiError.NoSuchResource();
    }

    private async Task GetAsync(HttpContext context, ResourceType type, RequestPath path)
    {
        var form = AcceptedForm.Of(context.Request);
        StoredObject stored =
            core.Store.Table(type.StorageTable).Get(path.Namespace, path.Name)
            ?? throw ApiError.NotFound(type.Group, type.Plural, path.Name);
        if (form is { Form: ObjectForm.Whole, Yaml: false } && type.FromStored is null)
            await ApiResponse.BytesAsync(context, 200, stored.Utf8);
        else
            await _views.WriteAsync(context, 200, type, ObjectWriter.Shown(type, stored), form);
    }

    private async Task CreateAsync(HttpContext context, ResourceType type, string ns)
    {
        var form = AcceptedForm.Of(context.Request);
        WriteOptions options = WriteOptionsOf(context.Request);
        JsonObject obj = await ReadObjectAsync(context, type, options);
        JsonObject metadata = obj.Child("metadata");
        if (type.Namespaced && ns.Length == 0)
            throw ApiError.BadRequest("an empty namespace may not be set during creation");
        if (metadata.Str("namespace") is { Length: > 0 } own && own != ns)
        {
            throw ApiError.BadRequest(
                type.Namespaced
                    ? "the namespace of the provided object does not match the namespace sent on the request"
                    : "namespace should not be set on cluster-scoped resources"
            );
        }

        JsonObject created = core.Writer.Create(type, ns, obj, options);
        ApiResponse.Warn(context, options.Warnings);
        await _views.WriteAsync(context, 201, type, created, form);
    }

    private async Task ReplaceAsync(HttpContext context, ResourceType type, RequestPath path)
    {
        var form = AcceptedForm.Of(context.Request);
        WriteOptions options = WriteOptionsOf(context.Request);
        JsonObject obj = await ReadObjectAsync(context, type, options);
        CheckIdentity(obj, path);
        // A replaced object has the managers that its writer read.
        JsonObject updated = core.Writer.Update(type, path.Namespace, path.Name, Subresource(path), options, _ => obj.Copy());
        ApiResponse.Warn(context, options.Warnings);
        await _views.WriteAsync(context, 200, type, updated, form);
    }

    private async Task PatchAsync(HttpContext context, ResourceType type, RequestPath path)
    {
        var form = AcceptedForm.Of(context.Request);
        WriteOptions options = WriteOptionsOf(context.Request);
        byte[] body = await RequestBody.ReadAsync(context.Request, context.RequestAborted);
        string contentType = RequestBody.ContentType(context.Request);
        if (contentType is "application/apply-patch+yaml")
        {
            (JsonObject? applied, bool created) = new ApplyRequest(core, type, path, options).Run(body, context.Request);
            ApiResponse.Warn(context, options.Warnings);
            await _views.WriteAsync(context, created ? 201 : 200, type, applied, form);
            return;
        }

        ObjectPatch patch =
            ObjectPatch.Parse(contentType, body, type)
            ?? throw ApiError.UnsupportedMediaType(type.IsCustom ? CustomPatchTypes : PatchTypes);
        JsonObject patched = core.Writer.Update(
            type,
            path.Namespace,
            path.Name,
            Subresource(path),
            options,
            current =>
            {
                JsonObject next = patch.Apply(current);
                // Only a refusal needs the result as it was before it is pruned.
                Func<string, ApiError> refuse =
                    options.FieldValidation == FieldValidation.Strict ? ObjectPatch.Refuse(next) : ApiError.BadRequest;
                CheckType(type, next);
                CheckIdentity(next, path);
                options.Warnings.Clear();
                Admission.Normalise(type, next, patch.Duplicates, options, refuse);
                return next;
            }
        );
        ApiResponse.Warn(context, options.Warnings);
        await _views.WriteAsync(context, 200, type, patched, form);
    }

    private async Task DeleteAsync(HttpContext context, ResourceType type, RequestPath path)
    {
        var form = AcceptedForm.Of(context.Request);
        DeleteOptions options = await DeleteOptionsAsync(context);
        if (options is { Orphan: true, DryRun: false } && core.Store.Table(type.StorageTable).Get(path.Namespace, path.Name) is { } owner)
            core.Garbage.Orphan(owner.Uid);
        (JsonObject? obj, bool gone) = core.Writer.Delete(type, path.Namespace, path.Name, options);
        if (!gone || type is { Group: "", Kind: "Namespace" or "Pod" })
        {
            await _views.WriteAsync(context, 200, type, obj, form);
            return;
        }

        var details = new JsonObject { ["name"] = path.Name };
        if (type.Group.Length > 0)
            details["group"] = type.Group;
        details["kind"] = type.Plural;
        details["uid"] = obj.Obj("metadata").Str("uid");
        await ApiResponse.JsonAsync(
            context,
            200,
            new JsonObject
            {
                ["kind"] = "Status",
                ["apiVersion"] = "v1",
                ["metadata"] = new JsonObject(),
                ["status"] = "Success",
                ["details"] = details,
            },
            form.Yaml
        );
    }

    private async Task DeleteCollectionAsync(HttpContext context, ResourceType type, string ns)
    {
        IQueryCollection query = context.Request.Query;
        DeleteOptions options = await DeleteOptionsAsync(context);
        var selector = ObjectSelector.Parse(type, ns, query["labelSelector"], query["fieldSelector"]);
        (System.Collections.Immutable.ImmutableSortedDictionary<string, StoredObject>? objects, long resourceVersion) = core.Store.Snapshot(
            core.Store.Table(type.StorageTable)
        );
        var chosen = objects.Values.Where(selector.Matches).ToList();
        foreach (StoredObject? stored in chosen)
        {
            try
            {
                core.Writer.Delete(type, stored.Namespace, stored.Name, options);
            }
            catch (ApiError e) when (e.Code == 404)
            {
                // Somebody else was quicker.
            }
        }

        await ListRequests.WriteAsync(context, type, chosen, resourceVersion, null, null, AcceptedForm.Of(context.Request), _views);
    }

    private static async Task<JsonObject> ReadObjectAsync(HttpContext context, ResourceType type, WriteOptions options)
    {
        string contentType = RequestBody.ContentType(context.Request);
        if (
            contentType
            is not (
                "application/json"
                or "application/yaml"
                or ""
                or "text/plain"
                or "application/x-www-form-urlencoded"
                or Protobuf.MediaType
            )
        )
        {
            throw ApiError.UnsupportedMediaType("application/json, application/yaml");
        }

        var duplicates = new List<string>();
        JsonObject obj = RequestBody.Object(
            await RequestBody.ReadAsync(context.Request, context.RequestAborted),
            contentType,
            duplicates,
            type.Kind
        );
        CheckType(type, obj);
        Admission.Normalise(
            type,
            obj,
            duplicates,
            options,
            problem => ApiError.BadRequest($"{type.Kind} in version \"{type.Version}\" cannot be handled as a {type.Kind}: {problem}")
        );
        return obj;
    }

    internal static void CheckType(ResourceType type, JsonObject obj)
    {
        // Typed clients may leave their own type out; kinds of custom resources must name themselves.
        if (!type.IsCustom)
        {
            obj["apiVersion"] ??= type.GroupVersion;
            obj["kind"] ??= type.Kind;
        }

        string kind = obj.Str("kind") ?? "";
        if (kind.Length == 0)
        {
            string text = Json.Text(obj);
            throw RequestBody.Unrecognised(type.Kind, $"Object 'Kind' is missing in '{text}'", System.Text.Encoding.UTF8.GetBytes(text));
        }

        if (obj.Str("apiVersion") != type.GroupVersion)
        {
            throw ApiError.BadRequest(
                $"the API version in the data ({obj.Str("apiVersion")}) does not match the expected API version ({type.GroupVersion})"
            );
        }

        if (kind == type.Kind)
            return;
        if (type.IsCustom)
        {
            throw ApiError.Invalid(
                type.Group,
                kind,
                obj.Obj("metadata").Str("name") ?? "",
                [Schemas.Violation.Invalid("kind", obj["kind"], $"must be {type.Kind}")]
            );
        }

        throw ApiError.BadRequest(
            $"{kind} in version \"{type.Version}\" cannot be handled as a {type.Kind}: no kind \"{kind}\" is registered for version \"{type.GroupVersion}\""
        );
    }

    internal static void CheckIdentity(JsonObject obj, RequestPath path)
    {
        JsonObject metadata = obj.Child("metadata");
        if (metadata.Str("name") is { Length: > 0 } name && name != path.Name)
            throw ApiError.BadRequest($"the name of the object ({name}) does not match the name on the URL ({path.Name})");
        if (metadata.Str("namespace") is { Length: > 0 } ns && ns != path.Namespace)
            throw ApiError.BadRequest("the namespace of the provided object does not match the namespace sent on the request");
        metadata["name"] = path.Name;
    }

    private static string? Subresource(RequestPath path) => path.Subresource.Length == 0 ? null : path.Subresource;

    private static WriteOptions WriteOptionsOf(HttpRequest request)
    {
        IQueryCollection query = request.Query;
        string dryRun = query["dryRun"].ToString();
        if (dryRun is not ("" or "All"))
            throw NotSupported(request, "dryRun", new JsonArray(dryRun), "All");
        string agent = request.Headers.UserAgent.ToString().Split('/')[0];
        return new WriteOptions
        {
            DryRun = dryRun == "All",
            Force = IsTrue(query["force"]),
            FieldManager =
                query["fieldManager"].ToString() is { Length: > 0 } manager ? manager
                : agent.Length > 0 ? agent
                : "unknown",
            FieldValidation = query["fieldValidation"].ToString() switch
            {
                "" or "Warn" => FieldValidation.Warn,
                "Strict" => FieldValidation.Strict,
                "Ignore" => FieldValidation.Ignore,
                var other => throw NotSupported(request, "fieldValidation", JsonValue.Create(other), "", "Ignore", "Strict", "Warn"),
            },
        };
    }

    private static ApiError NotSupported(HttpRequest request, string field, JsonNode value, params string[] supported)
    {
        string kind = request.Method switch
        {
            "POST" => "CreateOptions",
            "PUT" => "UpdateOptions",
            "DELETE" => "DeleteOptions",
            _ => "PatchOptions",
        };
        return ApiError.Invalid(
            "meta.k8s.io",
            kind,
            "",
            [Schemas.Violation.NotSupported(field, value, supported.Select(s => JsonValue.Create(s)))]
        );
    }

    private static async Task<DeleteOptions> DeleteOptionsAsync(HttpContext context)
    {
        IQueryCollection query = context.Request.Query;
        byte[] body = await RequestBody.ReadAsync(context.Request, context.RequestAborted);
        JsonObject options = body.Length == 0 ? [] : RequestBody.Object(body, RequestBody.ContentType(context.Request), []);
        JsonObject? preconditions = options.Obj("preconditions");
        string propagation = options.Str("propagationPolicy") ?? query["propagationPolicy"].ToString();
        return new DeleteOptions(
            options.Arr("dryRun")?.Select(Json.AsString).Contains("All") == true || query["dryRun"] == "All",
            preconditions.Str("uid"),
            preconditions.Str("resourceVersion"),
            propagation == "Orphan" || options.Flag("orphanDependents") || IsTrue(query["orphanDependents"])
        );
    }

    private static async Task ReviewAsync(HttpContext context, RequestPath path)
    {
        if (context.Request.Method != "POST" || AccessReviews.Kinds.All(k => k.Plural != path.Plural))
            throw ApiError.NoSuchResource();
        if (RequestBody.ContentType(context.Request) == Protobuf.MediaType)
        {
            // kubectl asks in protobuf; the answer needs nothing of the question.
            string kind = AccessReviews.Kinds.First(k => k.Plural == path.Plural).Kind;
            var bare = new JsonObject
            {
                ["kind"] = kind,
                ["apiVersion"] = $"{AccessReviews.Group}/{AccessReviews.Version}",
                ["spec"] = new JsonObject(),
            };
            await ApiResponse.JsonAsync(context, 201, AccessReviews.Answer(path.Plural, bare));
            return;
        }

        JsonObject review = RequestBody.Object(
            await RequestBody.ReadAsync(context.Request, context.RequestAborted),
            RequestBody.ContentType(context.Request),
            []
        );
        await ApiResponse.JsonAsync(context, 201, AccessReviews.Answer(path.Plural, review));
    }
}
