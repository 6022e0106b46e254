using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>What kinds the server has: /api, /apis and below, also in the aggregated form.</summary>
internal sealed class Discovery(Catalog catalog)
{
    private static readonly string[] Verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    private static readonly string[] StatusVerbs = ["get", "patch", "update"];

    public (JsonObject Body, string ContentType)? Answer(HttpRequest request, string path)
    {
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        bool aggregated = AcceptedForm.WantsAggregatedDiscovery(request);
        const string plain = "application/json";
        const string grouped = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        return parts switch
        {
            ["api"] => aggregated ? (Groups(t => t.Group.Length == 0), grouped) : (CoreVersions(), plain),
            ["apis"] => aggregated ? (Groups(t => t.Group.Length > 0), grouped) : (GroupList(), plain),
            ["apis", var group] when catalog.All.Any(t => t.Group == group) => (GroupOf(group, withType: true), plain),
            ["api", "v1"] => (Resources("", "v1"), plain),
            ["apis", var group, var version]
                when catalog.All.Any(t => t.Group == group && t.Version == version) || IsAuthorization(group, version) => (
                Resources(group, version),
                plain
            ),
            _ => null,
        };
    }

    private static bool IsAuthorization(string group, string version) => (group, version) == (AccessReviews.Group, AccessReviews.Version);

    private static JsonObject CoreVersions() =>
        new()
        {
            ["kind"] = "APIVersions",
            ["versions"] = new JsonArray("v1"),
            ["serverAddressByClientCIDRs"] = new JsonArray(),
        };

    private IEnumerable<string> GroupNames() =>
        catalog.All.Select(t => t.Group).Where(g => g.Length > 0).Append(AccessReviews.Group).Distinct(StringComparer.Ordinal);

    private string[] VersionsOf(string group) =>
        group == AccessReviews.Group
            ? [AccessReviews.Version]
            : [.. catalog.All.Where(t => t.Group == group).Select(t => t.Version).Distinct(StringComparer.Ordinal)];

    private JsonObject GroupList() =>
        new()
        {
            ["kind"] = "APIGroupList",
            ["apiVersion"] = "v1",
            ["groups"] = new JsonArray([.. GroupNames().Select(g => GroupOf(g, withType: false))]),
        };

    private JsonObject GroupOf(string group, bool withType)
    {
        JsonObject Version(string v) => new() { ["groupVersion"] = $"{group}/{v}", ["version"] = v };
        string[] versions = VersionsOf(group);
        var result = new JsonObject();
        if (withType)
            (result["kind"], result["apiVersion"]) = ("APIGroup", "v1");
        result["name"] = group;
        result["versions"] = new JsonArray([.. versions.Select(Version)]);
        result["preferredVersion"] = Version(versions[0]);
        return result;
    }

    private JsonObject Resources(string group, string version)
    {
        var list = new JsonArray();
        foreach (
            ResourceType? type in catalog
                .All.Where(t => t.Group == group && t.Version == version)
                .OrderBy(t => t.Plural, StringComparer.Ordinal)
        )
        {
            var resource = new JsonObject
            {
                ["name"] = type.Plural,
                ["singularName"] = type.Singular,
                ["namespaced"] = type.Namespaced,
                ["kind"] = type.Kind,
                ["verbs"] = Strings(Verbs),
            };
            if (type.ShortNames.Count > 0)
                resource["shortNames"] = Strings(type.ShortNames);
            if (type.Categories.Count > 0)
                resource["categories"] = Strings(type.Categories);
            list.Add(resource);
            foreach ((string name, string[] verbs) in Subresources(type))
            {
                list.Add(
                    new JsonObject
                    {
                        ["name"] = $"{type.Plural}/{name}",
                        ["singularName"] = "",
                        ["namespaced"] = type.Namespaced,
                        ["kind"] = type.Kind,
                        ["verbs"] = Strings(verbs),
                    }
                );
            }
        }

        if (IsAuthorization(group, version))
        {
            foreach ((string plural, string kind) in AccessReviews.Kinds)
            {
                list.Add(
                    new JsonObject
                    {
                        ["name"] = plural,
                        ["singularName"] = kind.ToLowerInvariant(),
                        ["namespaced"] = plural == AccessReviews.Local,
                        ["kind"] = kind,
                        ["verbs"] = Strings(["create"]),
                    }
                );
            }
        }

        return new JsonObject
        {
            ["kind"] = "APIResourceList",
            ["apiVersion"] = "v1",
            ["groupVersion"] = group.Length == 0 ? version : $"{group}/{version}",
            ["resources"] = list,
        };
    }

    private JsonObject Groups(Func<ResourceType, bool> included)
    {
        var groups = catalog
            .All.Where(included)
            .GroupBy(t => t.Group)
            .Select(group => new JsonObject
            {
                ["metadata"] = new JsonObject { ["name"] = group.Key, ["creationTimestamp"] = null },
                ["versions"] = new JsonArray([
                    .. group
                        .GroupBy(t => t.Version)
                        .Select(version => new JsonObject
                        {
                            ["version"] = version.Key,
                            ["resources"] = new JsonArray([.. version.OrderBy(t => t.Plural, StringComparer.Ordinal).Select(Aggregated)]),
                            ["freshness"] = "Current",
                        }),
                ]),
            })
            .ToList();
        if (groups.All(g => g.Obj("metadata").Str("name")!.Length > 0))
            groups.Add(AuthorizationGroup());
        return new JsonObject
        {
            ["kind"] = "APIGroupDiscoveryList",
            ["apiVersion"] = "apidiscovery.k8s.io/v2",
            ["metadata"] = new JsonObject(),
            ["items"] = new JsonArray([.. groups]),
        };
    }

    private static JsonObject Aggregated(ResourceType type)
    {
        JsonObject Kind() =>
            new()
            {
                ["group"] = type.Group,
                ["version"] = type.Version,
                ["kind"] = type.Kind,
            };
        var resource = new JsonObject
        {
            ["resource"] = type.Plural,
            ["responseKind"] = Kind(),
            ["scope"] = type.Namespaced ? "Namespaced" : "Cluster",
            ["singularResource"] = type.Singular,
            ["verbs"] = Strings(Verbs),
        };
        if (type.ShortNames.Count > 0)
            resource["shortNames"] = Strings(type.ShortNames);
        if (type.Categories.Count > 0)
            resource["categories"] = Strings(type.Categories);
        var sub = new JsonArray([
            .. Subresources(type)
                .Select(s => new JsonObject
                {
                    ["subresource"] = s.Name,
                    ["responseKind"] = Kind(),
                    ["verbs"] = Strings(s.Verbs),
                }),
        ]);
        if (sub.Count > 0)
            resource["subresources"] = sub;
        return resource;
    }

    private static JsonObject AuthorizationGroup() =>
        new()
        {
            ["metadata"] = new JsonObject { ["name"] = AccessReviews.Group, ["creationTimestamp"] = null },
            ["versions"] = new JsonArray(
                new JsonObject
                {
                    ["version"] = AccessReviews.Version,
                    ["resources"] = new JsonArray([
                        .. AccessReviews.Kinds.Select(k => new JsonObject
                        {
                            ["resource"] = k.Plural,
                            ["responseKind"] = new JsonObject
                            {
                                ["group"] = AccessReviews.Group,
                                ["version"] = AccessReviews.Version,
                                ["kind"] = k.Kind,
                            },
                            ["scope"] = k.Plural == AccessReviews.Local ? "Namespaced" : "Cluster",
                            ["singularResource"] = k.Kind.ToLowerInvariant(),
                            ["verbs"] = Strings(["create"]),
                        }),
                    ]),
                    ["freshness"] = "Current",
                }
            ),
        };

    private static IEnumerable<(string Name, string[] Verbs)> Subresources(ResourceType type)
    {
        if (type is { Group: "", Kind: "Namespace" })
            yield return ("finalize", ["update"]);
        if (type.HasStatus)
            yield return ("status", StatusVerbs);
    }

    private static JsonArray Strings(IEnumerable<string> values) => new([.. values.Select(v => JsonValue.Create(v))]);
}
