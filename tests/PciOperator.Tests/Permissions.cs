using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>One verb on one resource that a Role or ClusterRole gives to a service account.</summary>
/// <param name="Role">The role's path at the API server.</param>
/// <param name="User">The service account, as the API server calls it.</param>
/// <param name="Namespace">Where; null: in the whole cluster.</param>
/// <param name="Verb">The verb.</param>
/// <param name="Group">The API group.</param>
/// <param name="Resource">The resource, with its subresource.</param>
/// <param name="Name">The one object that it is for; null: any.</param>
internal sealed record Permission(string Role, string User, string? Namespace, string Verb, string Group, string Resource, string? Name)
{
    /// <summary>What the API server says to who lacks it, without the object's name and the place.</summary>
    public string Refusal => $"User \"{User}\" cannot {Verb} resource \"{Resource}\" in API group \"{Group}\"";

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Verb} {Resource}.{Group}{(Name is null ? "" : $" {Name}")} ({Role[(Role.IndexOf("v1/", 4) + 3)..]})";
}

/// <summary>The permissions that a real API server's roles give, and the same roles with one of them taken away.</summary>
internal sealed class Permissions(EntityClient admin)
{
    private const string Rbac = "/apis/rbac.authorization.k8s.io/v1";
    private const string Reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    private readonly Dictionary<string, JsonArray> _rules = [];

    /// <summary>Every permission that the service accounts of some namespaces have by a binding.</summary>
    public async Task<IReadOnlyList<Permission>> OfAsync(params string[] namespaces)
    {
        var all = new List<Permission>();
        foreach (string kind in new[] { "clusterrolebindings", "rolebindings" })
        {
            foreach (JsonNode? binding in await ListAsync($"{Rbac}/{kind}"))
            {
                string? ns = binding!["metadata"]!["namespace"]?.ToString();
                bool isClusterRole = binding["roleRef"]!["kind"]!.ToString() == "ClusterRole";
                string role = $"{Rbac}/{(isClusterRole ? "clusterroles" : $"namespaces/{ns}/roles")}/{binding["roleRef"]!["name"]}";
                foreach (JsonNode? subject in binding["subjects"]?.AsArray() ?? [])
                {
                    if (subject!["kind"]!.ToString() != "ServiceAccount" || !namespaces.Contains(subject["namespace"]!.ToString()))
                        continue;
                    all.AddRange(Read(await RulesAsync(role), role, $"system:serviceaccount:{subject["namespace"]}:{subject["name"]}", ns));
                }
            }
        }

        return all;
    }

    /// <summary>Takes one permission away; disposing gives it back. Each is done when the API server decides by it.</summary>
    public async Task<IAsyncDisposable> WithoutAsync(Permission taken)
    {
        var rules = new JsonArray();
        foreach (Permission p in Read(_rules[taken.Role], taken.Role, taken.User, taken.Namespace).Where(p => p != taken))
        {
            JsonNode rule = new JsonObject
            {
                ["apiGroups"] = new JsonArray(p.Group),
                ["resources"] = new JsonArray(p.Resource),
                ["verbs"] = new JsonArray(p.Verb),
            };
            if (p.Name is not null)
                rule["resourceNames"] = new JsonArray(p.Name);
            rules.Add(rule);
        }

        await WriteAsync(taken, rules, isAllowed: false);
        return new Back(() => WriteAsync(taken, (JsonArray)_rules[taken.Role].DeepClone(), isAllowed: true));
    }

    /// <summary>Whether the API server lets a service account do what a permission says.</summary>
    public async Task<bool> IsAllowedAsync(Permission asked)
    {
        string[] resource = asked.Resource.Split('/');
        var attributes = new JsonObject
        {
            ["verb"] = asked.Verb,
            ["group"] = asked.Group,
            ["resource"] = resource[0],
            ["subresource"] = resource.Length > 1 ? resource[1] : "",
            ["namespace"] = asked.Namespace ?? "",
            ["name"] = asked.Name ?? "",
        };
        var review = new JsonObject
        {
            ["apiVersion"] = "authorization.k8s.io/v1",
            ["kind"] = "SubjectAccessReview",
            ["spec"] = new JsonObject { ["user"] = asked.User, ["resourceAttributes"] = attributes },
        };
        using JsonDocument answer = await admin.SendRawAsync(HttpMethod.Post, Reviews, Encoding.UTF8.GetBytes(review.ToJsonString()));
        return answer.RootElement.GetProperty("status").GetProperty("allowed").GetBoolean();
    }

    private async Task WriteAsync(Permission changed, JsonArray rules, bool isAllowed)
    {
        string body = new JsonObject { ["rules"] = rules }.ToJsonString();
        (await admin.SendRawAsync(HttpMethod.Patch, changed.Role, Encoding.UTF8.GetBytes(body), "application/merge-patch+json")).Dispose();
        for (DateTime end = DateTime.UtcNow.AddMinutes(1); await IsAllowedAsync(changed) != isAllowed; await Task.Delay(10))
            Assert.True(DateTime.UtcNow < end, $"{changed} is {(isAllowed ? "not given" : "given by something else, too")}");
    }

    private async Task<JsonArray> RulesAsync(string role)
    {
        if (_rules.TryGetValue(role, out JsonArray? known))
            return known;
        using JsonDocument answer = await admin.GetRawAsync(role);
        return _rules[role] = JsonNode.Parse(answer.RootElement.GetProperty("rules").GetRawText())!.AsArray();
    }

    private async Task<JsonArray> ListAsync(string path)
    {
        using JsonDocument answer = await admin.GetRawAsync(path);
        return JsonNode.Parse(answer.RootElement.GetProperty("items").GetRawText())!.AsArray();
    }

    private static IEnumerable<Permission> Read(JsonArray rules, string role, string user, string? ns) =>
        from rule in rules
        from @group in Words(rule, "apiGroups")
        from resource in Words(rule, "resources")
        from verb in Words(rule, "verbs")
        from name in Words(rule, "resourceNames").DefaultIfEmpty()
        select new Permission(role, user, ns, verb, @group, resource, name);

    private static IEnumerable<string> Words(JsonNode? rule, string key) => (rule![key] as JsonArray ?? []).Select(w => w!.ToString());

    private sealed class Back(Func<Task> give) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync() => await give();
    }
}

/// <summary>A request to an API server, as its authorizer sees it.</summary>
internal sealed record Use(string Verb, string Group, string Resource, string? Namespace, string? Name)
{
    /// <summary>Null: a path that is no resource's.</summary>
    public static Use? Of(HttpRequestMessage request)
    {
        string[] parts = request.RequestUri!.AbsolutePath.Trim('/').Split('/');
        int at = parts[0] == "api" ? 2 : 3;
        if (parts.Length <= at)
            return null;
        string? ns = null;
        if (parts[at] == "namespaces" && parts.Length > at + 2)
            (ns, at) = (parts[at + 1], at + 2);
        string? name = parts.Length > at + 1 ? parts[at + 1] : null;
        string verb = request.Method.Method switch
        {
            "GET" when request.RequestUri.Query.Contains("watch=true", StringComparison.Ordinal) => "watch",
            "GET" => name is null ? "list" : "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            _ => name is null ? "deletecollection" : "delete",
        };
        string resource = parts.Length > at + 2 ? $"{parts[at]}/{parts[at + 2]}" : parts[at];
        return new Use(verb, parts[0] == "api" ? "" : parts[1], resource, ns, name);
    }
}

/// <summary>
/// Notes what programs ask of an API server and whether they may. Something can be made to happen just before a request, as when
/// somebody else writes at that moment.
/// </summary>
internal sealed class UseRecorder
{
    private readonly ConcurrentQueue<(string User, Use Use, bool Allowed)> _seen = new();
    private readonly ConcurrentDictionary<(string Verb, string Resource), Func<Task>> _before = new();

    /// <summary>Stands between a program and the network.</summary>
    public HttpMessageHandler Wrap(string user, HttpMessageHandler inner) => new Handler(this, user) { InnerHandler = inner };

    /// <summary>Before the next request of that kind, once.</summary>
    public void BeforeNext(string verb, string resource, Func<Task> happens) => _before[(verb, resource)] = happens;

    /// <summary>Whether a program has asked for that, allowed or not.</summary>
    public bool HasAsked(string user, string verb, string resource) =>
        _seen.Any(s => s.User == user && s.Use.Verb == verb && s.Use.Resource == resource);

    /// <summary>Whether a permission was of use.</summary>
    public bool HasUsed(Permission p) =>
        _seen.Any(s =>
            s.Allowed
            && s.User == p.User
            && s.Use.Verb == p.Verb
            && s.Use.Group == p.Group
            && s.Use.Resource == p.Resource
            && (p.Namespace is null || p.Namespace == s.Use.Namespace)
            && (p.Name is null || p.Name == s.Use.Name)
        );

    /// <summary>Forgets what was seen.</summary>
    public void Clear() => _seen.Clear();

    private sealed class Handler(UseRecorder recorder, string user) : DelegatingHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (Use.Of(request) is not { } use)
                return await base.SendAsync(request, cancellationToken);
            if (recorder._before.TryRemove((use.Verb, use.Resource), out Func<Task>? happens))
                await happens();
            HttpResponseMessage answer = await base.SendAsync(request, cancellationToken);
            recorder._seen.Enqueue((user, use, answer.StatusCode is not System.Net.HttpStatusCode.Forbidden));
            return answer;
        }
    }
}
