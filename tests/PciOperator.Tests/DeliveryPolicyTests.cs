using System.Text;
using PciOperator.Kubernetes;
using PciOperator.Testing;
using static PciOperator.Tests.Answers;

namespace PciOperator.Tests;

/// <summary>Who can come by a device through resource.k8s.io or an extended resource on a real API server with <c>config/</c>.</summary>
[Turns(8)]
public sealed class DeliveryPolicyTests : IAsyncLifetime
{
    private const string Resource = "/apis/resource.k8s.io/v1";
    private const string Claims = Resource + "/namespaces/team/resourceclaims";
    private const string Foreign = Resource + "/namespaces/other/resourceclaims";
    private const string Templates = Resource + "/namespaces/team/resourceclaimtemplates";
    private const string Slices = Resource + "/resourceslices";
    private const string Merge = "application/merge-patch+json";
    private const string OwnersUid = "u1";
    private const string OwnerReference =
        """{"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim","name":"c","uid":"u1","controller":true}""";
    private const string PodReference = """{"apiVersion":"v1","kind":"Pod","name":"vm","uid":"p1","controller":true}""";
    private const string PodClaimName = """{"resource.kubernetes.io/pod-claim-name":"gpu"}""";
    private const string OfTemplate =
        """device.attributes["pcioperator.io"].namespace == "team" && device.attributes["pcioperator.io"].template == "pool" && device.attributes["pcioperator.io"].request == "gpu" """;
    private static readonly string ForTeamsTemplate = OfTemplate.TrimEnd();
    private TestApiServer _server = null!;
    private EntityClient _admin = null!;

    private EntityClient Controller => new(ServiceAccounts.Access(_server, "pcioperator-controller"), null, userAgent: "pcioperator-tests");

    private EntityClient Agent => new(ServiceAccounts.Access(_server, "pcioperator-agent", "n1"), null, userAgent: "pcioperator-tests");

    /// <summary>A tenant with every right on resource.k8s.io, pods and nodes: more than any role gives.</summary>
    private EntityClient Tenant => As("system:serviceaccount:other:mallory");

    private EntityClient Scheduler => As("system:kube-scheduler");

    private EntityClient ClaimMaker => As("system:serviceaccount:kube-system:resource-claim-controller");

    public async ValueTask InitializeAsync()
    {
        _server = await TestApiServer.RealAsync();
        _admin = _server.Client();
        await Kubectl.RunAsync(_server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict");
        foreach (string ns in new[] { "team", "other" })
            await MakeAsync("/api/v1/namespaces", $$$"""{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"{{{ns}}}"}}""");
        await MakeAsync("/api/v1/nodes", """{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}""");
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"much"},"rules":[
             {"apiGroups":["resource.k8s.io"],"resources":["*"],"verbs":["*"]},{"apiGroups":[""],"resources":["pods","pods/ephemeralcontainers"],"verbs":["*"]}]}
            """
        );
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"claims"},"rules":[
             {"apiGroups":["pcioperator.io"],"resources":["passthroughclaims"],"verbs":["create"]}]}
            """
        );
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"claims"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"claims"},
             "subjects":[{"kind":"ServiceAccount","namespace":"other","name":"mallory"}]}
            """
        );
        await MakeAsync(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            """
            {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"much"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"much"},
             "subjects":[{"kind":"ServiceAccount","namespace":"other","name":"mallory"},{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"system:kube-scheduler"},
              {"kind":"ServiceAccount","namespace":"kube-system","name":"resource-claim-controller"}]}
            """
        );

        // Each policy holds some moments after it was made.
        await RefusedAsync(Tenant, HttpMethod.Post, Foreign + "?dryRun=All", null, Claim("x", Request("gpu")), "", untilItIs: true);
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates.Replace("team", "other", StringComparison.Ordinal) + "?dryRun=All",
            null,
            Template(Request("gpu")),
            "",
            untilItIs: true
        );
        await RefusedAsync(Tenant, HttpMethod.Post, Slices + "?dryRun=All", null, Slice("x"), "", untilItIs: true);
        await RefusedAsync(Tenant, HttpMethod.Post, Pods("other") + "?dryRun=All", null, Pod("pcioperator.io/team.c"), "", untilItIs: true);
        await MakeAsync(Foreign, Claim("waits", Request("d", "any")));
        await RefusedAsync(
            Scheduler,
            HttpMethod.Patch,
            Foreign + "/waits/status?dryRun=All",
            Merge,
            Allocation("claim-u1", "d"),
            "",
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
    public async Task A_claim_for_our_devices_is_made_by_the_controller_alone()
    {
        const string sentence =
            "ResourceClaims of DeviceClass pcioperator.io are made by PciOperator's controller alone: make a PassthroughClaim";
        string selector = """device.attributes["pcioperator.io"].claimUID == "u1" """.TrimEnd();
        await AllowedAsync(Controller, HttpMethod.Post, Claims, null, Claim("c", Request("gpu", selector: selector), OwnerReference));
        await RefusedAsync(Agent, HttpMethod.Post, Claims, null, Claim("a", Request("gpu"), OwnerReference), "cannot create");

        await RefusedAsync(Tenant, HttpMethod.Post, Foreign, null, Claim("by-class", Request("gpu")), sentence);
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("first-available", """{"name":"gpu","firstAvailable":[{"name":"a","deviceClassName":"pcioperator.io"}]}"""),
            sentence
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("by-selector", Request("gpu", "any", selector)),
            "a selector that names pcioperator.io belongs to a request of DeviceClass pcioperator.io"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("by-owner", Request("gpu", "any"), OwnerReference),
            "an ownerReference to an object of pcioperator.io is given by PciOperator's controller alone"
        );
        // Kubernetes makes a DeviceClass an extended resource, and kube-scheduler such a claim (KEP-5004).
        await RefusedAsync(Scheduler, HttpMethod.Post, Foreign, null, Claim("extended", Request("gpu"), PodReference), sentence);

        // What is nobody's business of ours.
        await AllowedAsync(
            Tenant,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("others", Request("nic", "nic.example.com", """device.attributes["nic.example.com"].speed == 100"""))
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Patch,
            Foreign + "/others",
            Merge,
            $$$"""{"metadata":{"ownerReferences":[{{{OwnerReference}}}]}}""",
            "an ownerReference to an object of pcioperator.io"
        );
        await AllowedAsync(Tenant, HttpMethod.Patch, Foreign + "/others", Merge, """{"metadata":{"labels":{"a":"b"}}}""");

        // Whoever may write the controller's claim may label it, and can't give it another owner.
        await AllowedAsync(Tenant, HttpMethod.Patch, Claims + "/c", Merge, """{"metadata":{"labels":{"a":"b"}}}""");
        await RefusedAsync(
            Tenant,
            HttpMethod.Patch,
            Claims + "/c",
            Merge,
            $$$"""{"metadata":{"ownerReferences":[{{{OwnerReference.Replace("u1", "u2", StringComparison.Ordinal)}}}]}}""",
            "an ownerReference to an object of pcioperator.io"
        );
        // The garbage collector's, when an owner is deleted in the foreground.
        await AllowedAsync(
            Tenant,
            HttpMethod.Patch,
            Claims + "/c",
            Merge,
            $$$"""{"metadata":{"ownerReferences":[{{{OwnerReference[..^1]}}},"blockOwnerDeletion":false}] } }"""
        );
        await AllowedAsync(Tenant, HttpMethod.Patch, Claims + "/c", Merge, """{"metadata":{"ownerReferences":[]}}""");
        await AllowedAsync(Controller, HttpMethod.Delete, Claims + "/c", null, null);
    }

    [TurnFact]
    public async Task A_template_for_our_devices_keeps_to_its_namespace_and_says_what_it_wants()
    {
        await AllowedAsync(Tenant, HttpMethod.Post, Templates, null, Template(Request("gpu", selector: ForTeamsTemplate)));
        await AllowedAsync(Tenant, HttpMethod.Patch, Templates + "/pool", Merge, """{"metadata":{"labels":{"a":"b"}}}""");
        await AllowedAsync(
            Tenant,
            HttpMethod.Post,
            Templates,
            null,
            Template(Request("nic", "nic.example.com"), config: "[]", name: "others")
        );

        string form =
            "request gpu of DeviceClass pcioperator.io needs one selector, with just this text, which keeps it to its namespace: "
            + ForTeamsTemplate;
        foreach (
            string? selector in new[]
            {
                null,
                ForTeamsTemplate.Replace("team", "other", StringComparison.Ordinal),
                ForTeamsTemplate.Replace("\"pool\"", "\"pool2\"", StringComparison.Ordinal),
                ForTeamsTemplate.Replace("\"gpu\"", "\"nic\"", StringComparison.Ordinal),
                ForTeamsTemplate + " || true",
                "true || " + ForTeamsTemplate,
                ForTeamsTemplate.Replace(" == ", "==", StringComparison.Ordinal),
            }
        )
        {
            await RefusedAsync(
                Tenant,
                HttpMethod.Post,
                Templates + "?dryRun=All",
                null,
                Template(Request("gpu", selector: selector)),
                form
            );
        }

        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", selector: ForTeamsTemplate), labels: "{}"),
            "spec.metadata.labels needs pcioperator.io/passthrough"
        );
        // A right on templates alone gives nobody devices.
        await RefusedAsync(
            ClaimMaker,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", selector: ForTeamsTemplate)),
            "you may not create those in this namespace"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", selector: ForTeamsTemplate, more: ""","count":2""")),
            "request gpu of DeviceClass pcioperator.io is for one device"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", selector: ForTeamsTemplate, more: ""","adminAccess":true""")),
            "request gpu of DeviceClass pcioperator.io is for one device"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template("""{"name":"gpu","firstAvailable":[{"name":"a","deviceClassName":"pcioperator.io"}]}"""),
            "is given under exactly, not under firstAvailable"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", selector: ForTeamsTemplate)).Replace("\"true\"", "\"false\"", StringComparison.Ordinal),
            "spec.metadata.labels needs pcioperator.io/passthrough"
        );
        string longName = new string('a', 65);
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(
                Request("gpu", selector: ForTeamsTemplate.Replace("\"pool\"", $"\"{longName}\"", StringComparison.Ordinal)),
                name: longName
            ),
            "has at most 64 characters"
        );
        foreach (
            string config in new[]
            {
                "[]",
                Config.Replace("PassthroughRequest", "Other", StringComparison.Ordinal),
                Config.Replace("\"driver\":\"pcioperator.io\"", "\"driver\":\"example.com\"", StringComparison.Ordinal),
                Config.Replace("v1alpha1", "v9", StringComparison.Ordinal),
                Config.Replace("""[{"name":"gpu","alias":"a1"}]""", "[]", StringComparison.Ordinal),
                Config[..^1] + "," + Config[1..],
            }
        )
        {
            await RefusedAsync(
                Tenant,
                HttpMethod.Post,
                Templates + "?dryRun=All",
                null,
                Template(Request("gpu", selector: ForTeamsTemplate), config),
                "need one entry in config, with opaque.driver pcioperator.io"
            );
        }

        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Templates + "?dryRun=All",
            null,
            Template(Request("gpu", "any", ForTeamsTemplate)),
            "PciOperator's devices are not had by another DeviceClass"
        );
    }

    [TurnFact]
    public async Task Kubernetes_makes_claims_of_templates_that_keep_to_their_namespace()
    {
        await AllowedAsync(
            ClaimMaker,
            HttpMethod.Post,
            Claims,
            null,
            Claim("vm-gpu-1", Request("gpu", selector: ForTeamsTemplate), PodReference, PodClaimName)
        );
        // A template that was there before the policies were.
        const string sentence = "the ResourceClaimTemplate does not keep to its namespace";
        await RefusedAsync(
            ClaimMaker,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("vm-gpu-2", Request("gpu", selector: ForTeamsTemplate), PodReference, PodClaimName),
            sentence
        );
        await RefusedAsync(
            ClaimMaker,
            HttpMethod.Post,
            Claims,
            null,
            Claim("vm-gpu-3", Request("gpu"), PodReference, PodClaimName),
            sentence
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Claims,
            null,
            Claim("vm-gpu-4", Request("gpu", selector: ForTeamsTemplate), PodReference, PodClaimName),
            "made by PciOperator's controller alone"
        );
        await RefusedAsync(
            ClaimMaker,
            HttpMethod.Post,
            Claims,
            null,
            Claim("vm-gpu-5", Request("gpu", selector: ForTeamsTemplate)),
            "made by PciOperator's controller alone"
        );
        await AllowedAsync(Scheduler, HttpMethod.Patch, Claims + "/vm-gpu-1/status", Merge, Allocation("claim-u7", "gpu"));
    }

    [TurnFact]
    public async Task Nobody_allocates_a_device_to_a_claim_of_somebody_else()
    {
        await AllowedAsync(Controller, HttpMethod.Post, Claims, null, Claim("c", Request("gpu"), OwnerReference));
        await AllowedAsync(Scheduler, HttpMethod.Patch, Claims + "/c/status", Merge, Allocation("claim-" + OwnersUid, "gpu"));
        await AllowedAsync(
            Scheduler,
            HttpMethod.Patch,
            Claims + "/c/status",
            Merge,
            """{"status":{"reservedFor":[{"resource":"pods","name":"vm","uid":"p1"}]}}"""
        );
        await AllowedAsync(Scheduler, HttpMethod.Patch, Claims + "/c/status", Merge, """{"status":null}""");
        await RefusedAsync(
            Scheduler,
            HttpMethod.Patch,
            Claims + "/c/status",
            Merge,
            Allocation("claim-u2", "gpu"),
            "device gpu of pool claim-u2 is another PassthroughClaim's: a ResourceClaim gets the devices of the PassthroughClaim that controls it, which are in pool claim-u1"
        );

        // By a DeviceClass that lets everything through, and by whoever forges what a template's claim looks like.
        await RefusedAsync(
            Scheduler,
            HttpMethod.Patch,
            Foreign + "/waits/status",
            Merge,
            Allocation("claim-u1", "d"),
            "device gpu of pool claim-u1 is another PassthroughClaim's: a ResourceClaim gets the devices of the PassthroughClaim that controls it, and this one has none"
        );
        await AllowedAsync(Tenant, HttpMethod.Post, Foreign, null, Claim("forged", Request("d", "any"), PodReference, PodClaimName));
        await RefusedAsync(
            Scheduler,
            HttpMethod.Patch,
            Foreign + "/forged/status",
            Merge,
            Allocation("claim-u1", "d"),
            "is another PassthroughClaim's"
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Foreign,
            null,
            Claim("at-once", Request("d", "any"))
                .Replace("\"spec\"", Allocation("claim-u1", "d")[1..^1] + ",\"spec\"", StringComparison.Ordinal),
            "is another PassthroughClaim's"
        );

        // Other drivers' devices are other drivers' business.
        await AllowedAsync(
            Scheduler,
            HttpMethod.Patch,
            Foreign + "/waits/status",
            Merge,
            Allocation("claim-u1", "d").Replace("pcioperator.io", "gpu.example.com", StringComparison.Ordinal)
        );
    }

    [TurnFact]
    public async Task What_is_stored_already_can_be_taken_back()
    {
        await AllowedAsync(_admin, HttpMethod.Patch, Foreign + "/waits/status", Merge, Allocation("claim-u1", "d"));
        await AllowedAsync(
            Scheduler,
            HttpMethod.Patch,
            Foreign + "/waits/status",
            Merge,
            """{"status":{"reservedFor":[{"resource":"pods","name":"vm","uid":"p1"}]}}"""
        );
        await AllowedAsync(Scheduler, HttpMethod.Patch, Foreign + "/waits/status", Merge, """{"status":{"reservedFor":null}}""");
        await AllowedAsync(Scheduler, HttpMethod.Patch, Foreign + "/waits/status", Merge, """{"status":null}""");
    }

    [TurnFact]
    public async Task The_controller_alone_says_what_has_become_of_a_device()
    {
        const string bound =
            """{"status":{"devices":[{"driver":"pcioperator.io","pool":"claim-u1","device":"gpu","conditions":[{"type":"pcioperator.io/Bound","status":"True","reason":"Bound","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}]}}""";
        const string sentence = "is written by PciOperator's controller alone";
        await AllowedAsync(Controller, HttpMethod.Post, Claims, null, Claim("c", Request("gpu"), OwnerReference));
        await AllowedAsync(Scheduler, HttpMethod.Patch, Claims + "/c/status", Merge, Allocation("claim-u1", "gpu"));
        await RefusedAsync(Agent, HttpMethod.Patch, Claims + "/c/status", Merge, bound, "cannot patch");
        await RefusedAsync(Tenant, HttpMethod.Patch, Claims + "/c/status", Merge, bound, sentence);
        await AllowedAsync(Controller, HttpMethod.Patch, Claims + "/c/status", Merge, bound);
        await AllowedAsync(
            Scheduler,
            HttpMethod.Patch,
            Claims + "/c/status",
            Merge,
            """{"status":{"reservedFor":[{"resource":"pods","name":"vm","uid":"p1"}]}}"""
        );
        await RefusedAsync(
            Tenant,
            HttpMethod.Patch,
            Claims + "/c/status",
            Merge,
            bound.Replace("True", "False", StringComparison.Ordinal),
            sentence
        );
        await AllowedAsync(
            Scheduler,
            HttpMethod.Patch,
            Claims + "/c/status",
            Merge,
            """{"status":{"allocation":null,"devices":null,"reservedFor":null}}"""
        );
    }

    [TurnFact]
    public async Task Devices_are_offered_by_the_controller_alone()
    {
        const string sentence = "ResourceSlices of driver pcioperator.io are written by PciOperator's controller alone";
        const string change = """{"spec":{"pool":{"generation":2}}}""";
        await AllowedAsync(Controller, HttpMethod.Post, Slices, null, Slice("claim-u1"));
        await RefusedAsync(Agent, HttpMethod.Post, Slices, null, Slice("mine"), "cannot create");
        await RefusedAsync(Tenant, HttpMethod.Post, Slices, null, Slice("mine"), sentence);
        await RefusedAsync(Tenant, HttpMethod.Patch, Slices + "/claim-u1", Merge, change, sentence);
        await RefusedAsync(Tenant, HttpMethod.Delete, Slices + "/claim-u1", null, null, sentence);

        string others = Slice("others", "gpu.example.com");
        await AllowedAsync(Tenant, HttpMethod.Post, Slices, null, others);
        await RefusedAsync(Tenant, HttpMethod.Patch, Slices + "/others", Merge, """{"spec":{"driver":"pcioperator.io"}}""", sentence);
        await AllowedAsync(Tenant, HttpMethod.Patch, Slices + "/others", Merge, change);
        await AllowedAsync(Tenant, HttpMethod.Delete, Slices + "/others", null, null);
        await AllowedAsync(Controller, HttpMethod.Delete, Slices + "/claim-u1", null, null);
    }

    [TurnFact]
    public async Task A_pod_asks_for_extended_resources_of_its_own_namespace_alone()
    {
        await AllowedAsync(Tenant, HttpMethod.Post, Pods("team"), null, Pod("pcioperator.io/team.c"));
        await AllowedAsync(Tenant, HttpMethod.Post, Pods("other"), null, Pod("example.com/team.c"));
        const string sentence =
            "container x asks for a claim of another namespace: in namespace other there are extended resources pcioperator.io/other.…";
        foreach (
            string name in new[]
            {
                "pcioperator.io/team.c",
                "pcioperator.io/otherteam.c",
                "pcioperator.io/c",
                "pcioperator.io/team.other.c",
            }
        )
        {
            foreach (string list in new[] { "containers", "initContainers", "ephemeralContainers" })
            {
                foreach (string kind in new[] { "limits", "requests" })
                    await RefusedAsync(Tenant, HttpMethod.Post, Pods("other"), null, Pod(name, list, kind), sentence);
            }
        }

        await RefusedAsync(_admin, HttpMethod.Post, Pods("other"), null, Pod("pcioperator.io/team.c"), sentence);
        await RefusedAsync(
            Tenant,
            HttpMethod.Post,
            Pods("team"),
            null,
            Pod("deviceclass.resource.kubernetes.io/pcioperator.io"),
            "container x asks for any device of DeviceClass pcioperator.io: make a PassthroughClaim"
        );
    }

    private const string Config =
        """[{"opaque":{"driver":"pcioperator.io","parameters":{"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughRequest","requests":[{"name":"gpu","alias":"a1"}]}}}]""";

    private static string Pods(string ns) => $"/api/v1/namespaces/{ns}/pods";

    private static string Pod(string resource, string list = "containers", string kind = "limits")
    {
        string asking = $$$"""{"name":"x","image":"i","resources":{"{{{kind}}}":{"{{{resource}}}":"1"} } }""";
        string plain = """[{"name":"main","image":"i"}]""";
        string containers = list == "containers" ? $"[{asking}]" : $"{plain},\"{list}\":[{asking}]";
        return $$$"""
            {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"p-"},"spec":{"containers":{{{containers}}} } }
            """;
    }

    private static string Request(string name, string deviceClass = "pcioperator.io", string? selector = null, string more = "")
    {
        string selectors = selector is null ? "" : $$$""","selectors":[{"cel":{"expression":{{{Quoted(selector)}}} } }]""";
        return $$$"""{"name":"{{{name}}}","exactly":{"deviceClassName":"{{{deviceClass}}}"{{{selectors}}}{{{more}}} } }""";
    }

    private static string Claim(string name, string request, string? owner = null, string annotations = "{}") =>
        $$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"{{{name}}}","annotations":{{{annotations}}},"ownerReferences":[{{{owner}}}]},"spec":{"devices":{"requests":[{{{request}}}]} } }
            """;

    private static string Template(
        string request,
        string config = Config,
        string name = "pool",
        string labels = """{"pcioperator.io/passthrough":"true"}"""
    ) =>
        $$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaimTemplate","metadata":{"name":"{{{name}}}"},"spec":{"metadata":{"labels":{{{labels}}} },"spec":{"devices":{"requests":[{{{request}}}],"config":{{{config}}} } } } }
            """;

    private static string Slice(string name, string driver = "pcioperator.io") =>
        $$$"""
            {"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"{{{name}}}"},"spec":{"driver":"{{{driver}}}","allNodes":true,"pool":{"name":"{{{name}}}","generation":1,"resourceSliceCount":1},"devices":[{"name":"gpu"}]}}
            """;

    private static string Allocation(string pool, string request) =>
        $$$"""{"status":{"allocation":{"devices":{"results":[{"driver":"pcioperator.io","pool":"{{{pool}}}","device":"gpu","request":"{{{request}}}"}]} } } }""";

    private static string Quoted(string text) => $"\"{text.Replace("\"", "\\\"", StringComparison.Ordinal)}\"";

    private EntityClient As(string user) => _server.Client(wrap: inner => new Impersonation(user) { InnerHandler = inner });

    private async Task MakeAsync(string path, string body) =>
        (await _admin.SendRawAsync(HttpMethod.Post, path, Encoding.UTF8.GetBytes(body))).Dispose();

    /// <summary>The administrator's requests in another's name, as <c>kubectl --as</c> sends them.</summary>
    private sealed class Impersonation(string user) : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            request.Headers.TryAddWithoutValidation("Impersonate-User", user);
            return base.SendAsync(request, cancellationToken);
        }
    }
}
