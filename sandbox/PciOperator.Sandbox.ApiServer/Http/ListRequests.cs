using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Lists, whole or in consistent pages.</summary>
internal sealed class ListRequests(ApiCore core)
{
    private readonly ObjectViews _views = new(core);

    public Task HandleAsync(HttpContext context, ResourceType type, string ns)
    {
        IQueryCollection query = context.Request.Query;
        var form = AcceptedForm.Of(context.Request);
        var selector = ObjectSelector.Parse(type, ns, query["labelSelector"], query["fieldSelector"]);
        Table table = core.Store.Table(type.StorageTable);
        (System.Collections.Immutable.ImmutableSortedDictionary<string, StoredObject>? objects, long resourceVersion) = core.Store.Snapshot(
            table
        );
        string match = query["resourceVersionMatch"].ToString();
        string wanted = query["resourceVersion"].ToString();
        string continueToken = query["continue"].ToString();
        CheckVersion(wanted, match, continueToken, resourceVersion);

        string after = "";
        if (continueToken.Length > 0)
        {
            (long pageVersion, after) = DecodeContinue(continueToken);
            if (pageVersion > 0)
            {
                objects =
                    core.Store.Page(table, pageVersion)
                    ?? throw ApiError.Expired(
                        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
                        EncodeContinue(-1, after)
                    );
                resourceVersion = pageVersion;
            }
        }
        else if (match == "Exact" && long.Parse(wanted, CultureInfo.InvariantCulture) is var exact && exact != resourceVersion)
        {
            objects = core.Store.Page(table, exact) ?? throw ApiError.Expired("The resourceVersion for the provided list is too old.");
            resourceVersion = exact;
        }

        int limit = int.TryParse(query["limit"], out int l) && l > 0 ? l : int.MaxValue;
        if (limit < int.MaxValue && wanted == "0" && match.Length == 0)
            limit = int.MaxValue;
        IEnumerable<StoredObject> source = objects.Values;
        if (after.Length > 0)
            source = source.Where(o => string.CompareOrdinal(o.Key, after) > 0);
        // One name in one namespace needs no scan.
        if (selector.OnlyName is { } name && (!type.Namespaced || ns.Length > 0))
            source = objects.TryGetValue(StoredObject.KeyOf(ns, name), out StoredObject? only) ? [only] : [];

        var page = new List<StoredObject>();
        string? next = null;
        long remaining = 0;
        foreach (StoredObject candidate in source)
        {
            if (!selector.Matches(candidate))
                continue;
            if (page.Count < limit)
                page.Add(candidate);
            else
                remaining++;
        }

        if (remaining > 0)
        {
            next = EncodeContinue(resourceVersion, page[^1].Key);
            core.Store.KeepPage(table, resourceVersion, objects);
        }

        long? exactRemaining =
            next is not null && query["labelSelector"].Count == 0 && query["fieldSelector"].Count == 0 ? remaining : (long?)null;
        return WriteAsync(context, type, page, resourceVersion, next, exactRemaining, form, _views);
    }

    public static async Task WriteAsync(
        HttpContext context,
        ResourceType type,
        IReadOnlyList<StoredObject> page,
        long resourceVersion,
        string? next,
        long? remaining,
        AcceptedForm form,
        ObjectViews views
    )
    {
        var metadata = new JsonObject { ["resourceVersion"] = resourceVersion.ToString(CultureInfo.InvariantCulture) };
        if (next is not null)
            metadata["continue"] = next;
        if (remaining is not null)
            metadata["remainingItemCount"] = remaining;
        if (form.Form == ObjectForm.Table)
        {
            await ApiResponse.JsonAsync(
                context,
                200,
                views.TableOf(context.Request, type, page.Select(o => ObjectWriter.Shown(type, o)), metadata),
                form.Yaml
            );
            return;
        }

        bool partial = form.Form == ObjectForm.PartialMetadata;
        var head = new JsonObject
        {
            ["kind"] = partial ? "PartialObjectMetadataList" : type.ListKindName,
            ["apiVersion"] = partial ? "meta.k8s.io/v1" : type.GroupVersion,
            ["metadata"] = metadata,
        };
        if (form.Yaml)
        {
            head["items"] = new JsonArray([
                .. page.Select(o => partial ? ObjectViews.Partial(o.Value) : ObjectWriter.Shown(type, o).Copy()),
            ]);
            await ApiResponse.JsonAsync(context, 200, head, yaml: true);
            return;
        }

        var body = new ArrayBufferWriter<byte>(256 + (page.Count * 1024));
        body.Write(Json.Utf8(head).AsSpan()[..^1]);
        body.Write(",\"items\":["u8);
        for (int i = 0; i < page.Count; i++)
        {
            if (i > 0)
                body.Write(","u8);
            body.Write(
                partial ? Json.Utf8(ObjectViews.Partial(page[i].Value))
                : type.FromStored is { } convert ? Json.Utf8(convert(page[i].Value))
                : page[i].Utf8
            );
        }

        body.Write("]}"u8);
        await ApiResponse.BytesAsync(context, 200, body.WrittenMemory);
    }

    private static void CheckVersion(string wanted, string match, string continueToken, long current)
    {
        (string, string)? problem = match switch
        {
            "" => null,
            _ when continueToken.Length > 0 => (
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden when continue is provided"
            ),
            _ when wanted.Length == 0 => (
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
            ),
            "Exact" when wanted == "0" => (
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
            ),
            "Exact" or "NotOlderThan" => ((string, string)?)null,
            _ => ("resourceVersionMatch", $"Unsupported value: \"{match}\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
        };
        if (problem is var (field, message))
        {
            throw ApiError.Invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                [new Schemas.Violation(field, message.StartsWith('F') ? "FieldValueForbidden" : "FieldValueNotSupported", message)]
            );
        }

        if (continueToken.Length > 0 && wanted is not ("" or "0"))
            throw ApiError.BadRequest("specifying resource version is not allowed when using continue");
        if (wanted.Length == 0)
            return;
        if (!long.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out long version))
        {
            throw ApiError.BadRequest(
                $"invalid resource version: resourceVersion: Invalid value: \"{wanted}\": strconv.ParseUint: parsing \"{wanted}\": invalid syntax"
            );
        }

        if (version > current)
            throw WatchRequests.TooLarge(version, current);
    }

    private static string EncodeContinue(long resourceVersion, string after) =>
        Convert
            .ToBase64String(
                Encoding.UTF8.GetBytes(
                    new JsonObject
                    {
                        ["v"] = "meta.k8s.io/v1",
                        ["rv"] = resourceVersion,
                        ["start"] = after,
                    }.ToJsonString()
                )
            )
            .TrimEnd('=')
            .Replace('+', '-')
            .Replace('/', '_');

    private static (long ResourceVersion, string After) DecodeContinue(string token)
    {
        try
        {
            string padded = token.Replace('-', '+').Replace('_', '/').PadRight((token.Length + 3) / 4 * 4, '=');
            JsonObject json = Json.ParseObject(Convert.FromBase64String(padded));
            return (json.Int("rv") ?? throw new FormatException(), json.Str("start") ?? throw new FormatException());
        }
        catch (Exception e) when (e is FormatException or System.Text.Json.JsonException)
        {
            throw ApiError.BadRequest("invalid continue token: continue key is not valid");
        }
    }
}
