using System.Text;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;
using PciOperator.Testing;
using static PciOperator.Tests.Answers;

namespace PciOperator.Tests;

/// <summary>What <c>config/</c> lets each token do on a real API server: every rule once allowed and once refused.</summary>
[Turns(9)]
public sealed class PolicyTests : IAsyncLifetime
{
    private const string Own = "/apis/pcioperator.io/v1alpha1";
    private const string Claims = Own + "/namespaces/team/passthroughclaims";
    private const string Events = "/apis/events.k8s.io/v1/namespaces";
    private const string Merge = "application/merge-patch+json";
    private const string Strategic = "application/strategic-merge-patch+json";
    private const string Apply = "application/apply-patch+yaml";
    private TestApiServer _server = null!;
    private EntityClient _admin = null!;

    private EntityClient Controller => As("pcioperator-controller");

    public async ValueTask InitializeAsync()
    {
        _server = await TestApiServer.RealAsync();
        _admin = _server.Client();
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await MakeAsync("/api/v1/namespaces", """{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}}""");
        foreach (string name in new[] { "root", "editor", "viewer", "owner" })
        {
            await MakeAsync(
                "/api/v1/namespaces/team/serviceaccounts",
                $$$"""{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"{{{name}}}"}}"""
            );
        }

        foreach (string node in new[] { "n1", "n2" })
        {
            await MakeAsync("/api/v1/nodes", $$$"""{"apiVersion":"v1","kind":"Node","metadata":{"name":"{{{node}}}"}}""");
            await _admin.SendRawAsync(
                HttpMethod.Patch,
                $"/api/v1/nodes/{node}/status",
                """{"status":{"capacity":{"cpu":"4"},"conditions":[{"type":"Ready","status":"True"}]}}"""u8.ToArray(),
                Merge
            );
            await MakeAsync(
                Own + "/pcinodes",
                $$$"""{"apiVersion":"pcioperator.io/v1alpha1","kind":"PciNode","metadata":{"name":"{{{node}}}","finalizers":["pcioperator.io/assignments"]},"spec":{}}"""
            );
        }

        // Somebody who was given every right on our kinds.
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"all"},"rules":[
             {"apiGroups":["pcioperator.io"],"resources":["*"],"verbs":["*"]},{"apiGroups":["events.k8s.io"],"resources":["events"],"verbs":["*"]}]}
            """
        );
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"all"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"all"},
             "subjects":[{"kind":"ServiceAccount","namespace":"team","name":"root"}]}
            """
        );
        foreach ((string name, string role) in new[] { ("viewer", "view"), ("editor", "edit"), ("owner", "admin") })
        {
            await MakeAsync(
                "/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings",
                $$$"""
                {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"{{{name}}}"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"pcioperator-{{{role}}}"},
                 "subjects":[{"kind":"ServiceAccount","namespace":"team","name":"{{{name}}}"}]}
                """
            );
        }

        await MakeAsync(Claims, Claim("c"));
        await RefusedAsync(
            As("pcioperator-agent", "n2"),
            HttpMethod.Patch,
            Own + "/pcinodes/n1/status",
            Merge,
            """{"status":{"bootId":"b"}}""",
            "the agent of node n2",
            untilItIs: true
        );
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is null)
            return;
        _admin.Dispose();
        await _server.DisposeAsync();
    }

    [TurnFact]
    public async Task An_agent_writes_the_status_of_its_own_PciNode_and_no_other()
    {
        const string status = """{"status":{"bootId":"b"}}""";
        await AllowedAsync(As("pcioperator-agent", "n1"), HttpMethod.Patch, Own + "/pcinodes/n1/status", Merge, status);
        await RefusedAsync(
            As("pcioperator-agent", "n1"),
            HttpMethod.Patch,
            Own + "/pcinodes/n2/status",
            Merge,
            status,
            "the agent of node n1 writes the status of PciNode n1 and of nothing else"
        );
        await RefusedAsync(
            As("pcioperator-agent"),
            HttpMethod.Patch,
            Own + "/pcinodes/n1/status",
            Merge,
            status,
            "this token names no node"
        );
        await RefusedAsync(
            As("root", ns: "team"),
            HttpMethod.Patch,
            Own + "/pcinodes/n1/status",
            Merge,
            status,
            "by the agent of its node alone"
        );
    }

    [TurnFact]
    public async Task An_agent_writes_events_about_its_own_node_in_their_namespace()
    {
        EntityClient agent = As("pcioperator-agent", "n1");
        await AllowedAsync(agent, HttpMethod.Post, Events + "/default/events", null, Event("default", "PciNode", "n1"));
        await RefusedAsync(
            agent,
            HttpMethod.Post,
            Events + "/default/events",
            null,
            Event("default", "PciNode", "n2"),
            "writes events about PciNode n1"
        );
        await RefusedAsync(
            agent,
            HttpMethod.Post,
            Events + "/default/events",
            null,
            Event("default", "PassthroughClaim", "n1"),
            "those about claims are the controller's"
        );
        await RefusedAsync(
            agent,
            HttpMethod.Post,
            Events + "/team/events",
            null,
            Event("team", "PassthroughClaim", "c"),
            "those about claims are the controller's"
        );
        await RefusedAsync(
            agent,
            HttpMethod.Post,
            Events + "/kube-system/events",
            null,
            Event("kube-system", "PciNode", "n1"),
            "belong into namespace default"
        );
        await RefusedAsync(
            As("pcioperator-agent"),
            HttpMethod.Post,
            Events + "/default/events",
            null,
            Event("default", "PciNode", "n1"),
            "this token names no node"
        );
        await AllowedAsync(As("root", ns: "team"), HttpMethod.Post, Events + "/team/events", null, Event("team", "PassthroughClaim", "c"));
    }

    [TurnFact]
    public async Task An_agent_goes_on_with_its_own_events_alone()
    {
        const string series = """{"series":{"count":2,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}""";
        EntityClient agent = As("pcioperator-agent", "n1");
        await AllowedAsync(agent, HttpMethod.Post, Events + "/default/events", null, Event("default", "PciNode", "n1", name: "mine"));
        await AllowedAsync(agent, HttpMethod.Patch, Events + "/default/events/mine", Merge, series);
        await RefusedAsync(
            As("pcioperator-agent", "n2"),
            HttpMethod.Patch,
            Events + "/default/events/mine",
            Merge,
            series,
            "writes events about PciNode n2"
        );
        await AllowedAsync(
            _admin,
            HttpMethod.Post,
            Events + "/default/events",
            null,
            Event("default", "PciNode", "n1", name: "theirs", by: "pcioperator-controller")
        );
        await RefusedAsync(agent, HttpMethod.Patch, Events + "/default/events/theirs", Merge, series, "continues its own events");
        await AllowedAsync(_admin, HttpMethod.Post, Events + "/default/events", null, Event("default", "PciNode", "n2", name: "foreign"));
        await RefusedAsync(
            agent,
            HttpMethod.Patch,
            Events + "/default/events/foreign",
            Merge,
            """{"regarding":{"name":"n1"}}""",
            "continues its own events"
        );
    }

    [TurnFact]
    public async Task The_controller_alone_writes_what_it_decides()
    {
        EntityClient root = As("root", ns: "team");
        await AllowedAsync(Controller, HttpMethod.Patch, Own + "/pcinodes/n2", Merge, """{"spec":{"rules":[]}}""");
        await RefusedAsync(
            root,
            HttpMethod.Patch,
            Own + "/pcinodes/n2",
            Merge,
            """{"spec":{"assignments":[]}}""",
            "by the controller alone"
        );
        await RefusedAsync(
            root,
            HttpMethod.Patch,
            Own + "/pcinodes/n2",
            Merge,
            """{"metadata":{"finalizers":[]}}""",
            "finalizers of pcioperator.io"
        );
        await RefusedAsync(
            root,
            HttpMethod.Post,
            Own + "/pcinodes",
            null,
            """{"apiVersion":"pcioperator.io/v1alpha1","kind":"PciNode","metadata":{"name":"n3"},"spec":{}}""",
            "by the controller alone"
        );
        // An administrator frees a device by an annotation.
        await AllowedAsync(
            root,
            HttpMethod.Patch,
            Own + "/pcinodes/n2",
            Merge,
            """{"metadata":{"annotations":{"pcioperator.io/free":"0000:01:00.0"}}}"""
        );

        await MakeAsync(Claims, Claim("mine"));
        await AllowedAsync(
            Controller,
            HttpMethod.Patch,
            Claims + "/mine",
            Merge,
            """{"metadata":{"finalizers":["pcioperator.io/release"]}}"""
        );
        await RefusedAsync(
            root,
            HttpMethod.Patch,
            Claims + "/mine",
            Merge,
            """{"metadata":{"finalizers":[]}}""",
            "finalizers of pcioperator.io"
        );
        await AllowedAsync(
            root,
            HttpMethod.Patch,
            Claims + "/mine",
            Merge,
            """{"metadata":{"finalizers":["pcioperator.io/release","example.com/vm"]}}"""
        );
        await RefusedAsync(
            root,
            HttpMethod.Patch,
            Claims + "/mine/status",
            Merge,
            """{"status":{"nodeName":"n2"}}""",
            "the status of passthroughclaims is written by the controller alone"
        );

        // It writes whole objects: PUT.
        using System.Text.Json.JsonDocument live = await Controller.SendRawAsync(HttpMethod.Get, Claims + "/mine", default);
        JsonNode claim = JsonNode.Parse(live.RootElement.GetRawText())!;
        claim["status"] = new JsonObject { ["phase"] = "Pending" };
        await AllowedAsync(Controller, HttpMethod.Put, Claims + "/mine/status", null, claim.ToJsonString());
    }

    [TurnFact]
    public async Task Of_a_Node_the_controller_writes_its_own_condition_alone()
    {
        const string condition =
            """{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"status":{"conditions":[{"type":"PciPassthroughReady","status":"True","reason":"Ready","message":"m"}]}}""";
        const string sentence = "of a Node the controller writes the condition PciPassthroughReady and nothing else";
        const string path = "/api/v1/nodes/n1/status";
        await AllowedAsync(Controller, HttpMethod.Patch, path + "?fieldManager=pcioperator-controller&force=true", Apply, condition);
        await AllowedAsync(
            Controller,
            HttpMethod.Patch,
            path,
            Strategic,
            """{"status":{"conditions":[{"type":"PciPassthroughReady","status":"False"}]}}"""
        );
        await AllowedAsync(
            Controller,
            HttpMethod.Patch,
            path,
            Strategic,
            """{"status":{"conditions":[{"type":"PciPassthroughReady","$patch":"delete"}]}}"""
        );
        await RefusedAsync(
            Controller,
            HttpMethod.Patch,
            path,
            Strategic,
            """{"status":{"conditions":[{"type":"Ready","status":"False"}]}}""",
            sentence
        );
        await RefusedAsync(
            Controller,
            HttpMethod.Patch,
            path,
            Strategic,
            """{"status":{"conditions":[{"type":"Ready","$patch":"delete"}]}}""",
            sentence
        );
        await RefusedAsync(Controller, HttpMethod.Patch, path, Merge, """{"status":{"capacity":{"cpu":"400"}}}""", sentence);
        await RefusedAsync(Controller, HttpMethod.Patch, path, Merge, """{"status":{"capacity":null}}""", sentence);
        await RefusedAsync(
            Controller,
            HttpMethod.Patch,
            path,
            Merge,
            """{"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}""",
            sentence
        );
        await RefusedAsync(Controller, HttpMethod.Patch, path, Merge, """{"metadata":{"labels":{"a":"b"}}}""", sentence);
    }

    [TurnFact]
    public async Task Tenants_roles_give_claims_and_no_status()
    {
        (EntityClient viewer, EntityClient editor, EntityClient owner) = (
            As("viewer", ns: "team"),
            As("editor", ns: "team"),
            As("owner", ns: "team")
        );
        await AllowedAsync(viewer, HttpMethod.Get, Claims + "/c", null, null);
        await RefusedAsync(viewer, HttpMethod.Post, Claims, null, Claim("v"), "cannot create");
        foreach ((EntityClient tenant, string name) in new[] { (editor, "e"), (owner, "o") })
        {
            await AllowedAsync(tenant, HttpMethod.Post, Claims, null, Claim(name));
            await AllowedAsync(tenant, HttpMethod.Patch, $"{Claims}/{name}", Merge, """{"metadata":{"labels":{"vm":"a"}}}""");
            await RefusedAsync(
                tenant,
                HttpMethod.Patch,
                $"{Claims}/{name}/status",
                Merge,
                """{"status":{"phase":"Pending"}}""",
                "cannot patch"
            );
            await RefusedAsync(tenant, HttpMethod.Get, Own + "/pcinodes/n1", null, null, "cannot get");
            await AllowedAsync(tenant, HttpMethod.Delete, $"{Claims}/{name}", null, null);
        }
    }

    [TurnFact]
    public async Task What_a_claim_carries_beside_its_spec_is_bounded_and_never_keeps_it_from_going()
    {
        EntityClient editor = As("editor", ns: "team");
        await MakeAsync(Claims, Claim("big"));
        string small = new string('a', 60_000);
        await AllowedAsync(editor, HttpMethod.Patch, Claims + "/big", Merge, Metadata("annotations", $$"""{"x":"{{small}}"}"""));
        await RefusedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            Metadata("annotations", $$"""{"y":"{{small}}"}"""),
            "metadata.annotations: 120002 bytes"
        );
        await RefusedAsync(
            editor,
            HttpMethod.Post,
            Claims,
            null,
            Claim("huge", $$$"""{"x":"{{{small + small}}}"}"""),
            "a PassthroughClaim takes 65536"
        );
        await RefusedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            Metadata("labels", "{" + string.Join(',', Enumerable.Range(0, 65).Select(i => $"\"l{i}\":\"\"")) + "}"),
            "metadata.labels: 65"
        );
        await RefusedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            Metadata("finalizers", "[" + string.Join(',', Enumerable.Range(0, 17).Select(i => $"\"a.b/f{i}\"")) + "]"),
            "metadata.finalizers: 17"
        );
        string owners = string.Join(
            ',',
            Enumerable.Range(0, 17).Select(i => $$"""{"apiVersion":"v1","kind":"ConfigMap","name":"o{{i}}","uid":"u{{i}}"}""")
        );
        await RefusedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            Metadata("ownerReferences", $"[{owners}]"),
            "metadata.ownerReferences: 17"
        );

        // It is this big already, from before there was a bound: everything else can still be changed, and it can go.
        await Kubectl.RunAsync(_server.KubeconfigText, "delete", "validatingadmissionpolicybinding", "pcioperator-claim-size");
        await AllowedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            Metadata("annotations", $$"""{"y":"{{small}}"}"""),
            untilItIs: true
        );
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        await RefusedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big?dryRun=All",
            Merge,
            Metadata("annotations", $$"""{"z":"{{small}}"}"""),
            "metadata.annotations",
            untilItIs: true
        );
        await AllowedAsync(
            editor,
            HttpMethod.Patch,
            Claims + "/big",
            Merge,
            """{"metadata":{"labels":{"a":"b"},"finalizers":["a.b/c"]}}"""
        );
        await AllowedAsync(editor, HttpMethod.Patch, Claims + "/big", Merge, """{"metadata":{"finalizers":[]}}""");
        await AllowedAsync(editor, HttpMethod.Delete, Claims + "/big", null, null);
    }

    private static string Metadata(string field, string value) => "{\"metadata\":{\"" + field + "\":" + value + "}}";

    [TurnFact]
    public async Task A_quotas_status_is_written_by_the_controller_alone()
    {
        await MakeAsync(
            Own + "/pciquotas",
            """{"apiVersion":"pcioperator.io/v1alpha1","kind":"PciQuota","metadata":{"name":"q"},"spec":{"limits":[{"alias":"*","devices":2}]}}"""
        );
        // Whoever wrote it could reserve all, or make what is used be forgotten.
        const string status = """{"status":{"reservations":null,"assignmentsSeen":"1"}}""";
        await RefusedAsync(
            As("root", ns: "team"),
            HttpMethod.Patch,
            Own + "/pciquotas/q/status",
            Merge,
            status,
            "the status of pciquotas is written by the controller alone"
        );
        await RefusedAsync(
            As("pcioperator-agent", "n1"),
            HttpMethod.Patch,
            Own + "/pciquotas/q/status",
            Merge,
            status,
            "cannot patch resource"
        );
        JsonNode quota = JsonNode.Parse((await _admin.GetRawAsync(Own + "/pciquotas/q")).RootElement.GetRawText())!;
        quota["status"] = new JsonObject { ["assignmentsSeen"] = "1" };
        await AllowedAsync(Controller, HttpMethod.Put, Own + "/pciquotas/q/status", null, quota.ToJsonString());
        // Its spec is the administrator's.
        await AllowedAsync(
            As("root", ns: "team"),
            HttpMethod.Patch,
            Own + "/pciquotas/q",
            Merge,
            """{"spec":{"limits":[{"alias":"*","devices":3}]}}"""
        );
        await RefusedAsync(
            Controller,
            HttpMethod.Patch,
            Own + "/pciquotas/q",
            Merge,
            """{"spec":{"limits":null}}""",
            "cannot patch resource"
        );
    }

    /// <summary>config/samples/policies/claim-priority-classes.yaml.</summary>
    [TurnFact]
    public async Task An_administrator_can_say_which_PriorityClasses_a_namespaces_claims_may_name()
    {
        await Kubectl.RunAsync(
            _server.KubeconfigText,
            "apply",
            "--validate=strict",
            "-f",
            Path.Combine(Kubectl.Repository, "config", "samples", "policies", "claim-priority-classes.yaml")
        );
        static string WithClass(string name, string priority) =>
            Claim(name).Replace("\"requests\":", $"\"priorityClassName\":\"{priority}\",\"requests\":", StringComparison.Ordinal);
        EntityClient editor = As("editor", ns: "team");
        const string why = "claims of namespace team may not name the PriorityClass";
        await RefusedAsync(editor, HttpMethod.Post, Claims + "?dryRun=All", null, WithClass("p1", "urgent"), why, untilItIs: true);
        await RefusedAsync(editor, HttpMethod.Patch, "/api/v1/namespaces/team", Merge, "{}", "cannot patch resource");
        await Kubectl.RunAsync(_server.KubeconfigText, "annotate", "namespace", "team", "example.com/claim-priority-classes=batch, urgent");
        await AllowedAsync(editor, HttpMethod.Post, Claims, null, WithClass("p1", "urgent"), untilItIs: true);
        await RefusedAsync(editor, HttpMethod.Post, Claims, null, WithClass("p2", "first"), why);
        // The controller, who makes those of templates, can't be had for it.
        await RefusedAsync(Controller, HttpMethod.Post, Claims, null, WithClass("p2", "first"), why);
        await AllowedAsync(editor, HttpMethod.Post, Claims, null, Claim("p3"));
    }

    private static string Claim(string name, string annotations = "{}") =>
        $$$"""
            {"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim","metadata":{"name":"{{{name}}}","annotations":{{{annotations}}}},"spec":{"requests":[{"name":"r","alias":"a"}]}}
            """;

    private static string Event(string ns, string kind, string about, string? name = null, string by = "pcioperator-agent") =>
        $$$"""
            {"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"{{{name
                ?? Guid.NewGuid().ToString()}}}","namespace":"{{{ns}}}"},"eventTime":"2026-01-01T00:00:00.000000Z",
             "reportingController":"{{{by}}}","reportingInstance":"i","action":"A","reason":"R","type":"Normal","note":"n",
             "regarding":{"apiVersion":"pcioperator.io/v1alpha1","kind":"{{{kind}}}","name":"{{{about}}}","namespace":{{{(
                kind == "PciNode" ? "null" : $"\"{ns}\""
            )}}}}}
            """;

    private EntityClient As(string account, string? node = null, string? ns = null) =>
        new(ServiceAccounts.Access(_server, account, node, ns), null, userAgent: "pcioperator-tests");

    private async Task MakeAsync(string path, string body) =>
        (await _admin.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(body))).Dispose();
}
