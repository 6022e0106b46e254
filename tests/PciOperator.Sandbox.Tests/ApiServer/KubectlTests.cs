using PciOperator.Testing;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>What a person at a terminal sees of the sandbox, with the real kubectl.</summary>
[Turns(4)]
public sealed class KubectlTests : IAsyncLifetime
{
    private const string Widget = """
        apiVersion: example.com/v1
        kind: Widget
        metadata: {name: w1, namespace: default}
        spec: {size: 3, requests: [{name: a}]}
        """;

    private const string Held = """
        apiVersion: example.com/v1
        kind: Widget
        metadata: {name: held, namespace: default, finalizers: [example.com/hold]}
        spec: {size: 3}
        """;

    private const string Node = """
        apiVersion: v1
        kind: Node
        metadata: {name: node-a, labels: {node-role.kubernetes.io/worker: ""}}
        status:
          conditions: [{type: Ready, status: "True", reason: KubeletReady}]
          nodeInfo: {kubeletVersion: v1.36.0}
        """;

    private SandboxServer _server = null!;
    private Kubectl _kubectl = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await SandboxServer.StartAsync();
        _kubectl = new Kubectl(_server.KubeconfigText);
    }

    public async ValueTask DisposeAsync()
    {
        _kubectl.Dispose();
        await _server.DisposeAsync();
    }

    [TurnFact]
    public async Task Get_shows_the_columns_of_the_definition()
    {
        await _kubectl.DoAsync("apply -f -", Widget);
        Assert.Matches(@"^NAME +SIZE +READY +AGE\nw1 +3 +\d+s\n$", await _kubectl.DoAsync("get wd"));
        Assert.Matches(@"^NAME +SIZE +READY +NAMES +AGE\nw1 +3 +a +\d+s\n$", await _kubectl.DoAsync("get wd -o wide"));
        Assert.Equal("widget.example.com/w1\n", await _kubectl.DoAsync("get wd -o name"));
        Assert.Equal("3", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}"));
        Assert.Contains("default", await _kubectl.DoAsync("get all -A"), StringComparison.Ordinal);
        Assert.Equal("Error from server (NotFound): widgets.example.com \"none\" not found\n", await _kubectl.FailAsync("get wd none"));
        Assert.Contains("w1", await _kubectl.DoAsync("get wd --field-selector metadata.name=w1"), StringComparison.Ordinal);
        Assert.Equal("", await _kubectl.DoAsync("get wd -l a=b"));
    }

    [TurnFact]
    public async Task Get_watch_streams_rows()
    {
        await _kubectl.DoAsync("apply -f -", Widget);
        Task<Kubectl.Output> watch = _kubectl.RunAsync(["get", "wd", "-w", "--request-timeout=3s"]);
        Assert.Matches(@"^NAME +SIZE +READY +AGE\nw1 +3 +\d+s\n", (await watch).Text);
    }

    [TurnFact]
    public async Task Explain_tells_what_the_definition_says()
    {
        string text = await _kubectl.DoAsync("explain wd.spec.size");
        Assert.Contains("FIELD: size <integer>", text, StringComparison.Ordinal);
        Assert.Contains("How many.", text, StringComparison.Ordinal);
        Assert.Contains("name\t<string> -required-", await _kubectl.DoAsync("explain wd.spec.requests"), StringComparison.Ordinal);
        Assert.Contains("ENUM:\n    a\n    b\n", await _kubectl.DoAsync("explain wd.spec.mode"), StringComparison.Ordinal);
        await _kubectl.FailAsync("explain wd.nothing");
    }

    [TurnFact]
    public async Task Apply_on_the_clients_side_creates_changes_and_removes()
    {
        Assert.Equal("widget.example.com/w1 created\n", await _kubectl.DoAsync("apply -f -", Widget));
        Assert.Equal(
            "widget.example.com/w1 configured\n",
            await _kubectl.DoAsync("apply -f -", Widget.Replace("size: 3", "size: 4, name: abc", StringComparison.Ordinal))
        );
        Assert.Equal("4-abc", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}{\"-\"}{.spec.name}"));
        await _kubectl.DoAsync("apply -f -", Widget);
        Assert.Equal("", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.name}"));

        const string map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndata: ";
        await _kubectl.DoAsync("apply -f -", map + "{x: '1', y: '2'}");
        Assert.Equal("configmap/c unchanged\n", await _kubectl.DoAsync("apply -f -", map + "{x: '1', y: '2'}"));
        await _kubectl.DoAsync("apply -f -", map + "{x: '3'}");
        Assert.Equal("{\"x\":\"3\"}", await _kubectl.DoAsync("get cm c -o jsonpath={.data}"));
    }

    [TurnFact]
    public async Task Apply_on_the_servers_side_takes_over_and_conflicts()
    {
        Assert.Equal("widget.example.com/w1 serverside-applied\n", await _kubectl.DoAsync("apply --server-side -f -", Widget));
        await _kubectl.DoAsync("apply --server-side --field-manager=other -f -", Widget);
        string conflict = await _kubectl.FailAsync(
            "apply --server-side --field-manager=third -f -",
            Widget.Replace("size: 3", "size: 9", StringComparison.Ordinal)
        );
        Assert.Contains("Apply failed with 2 conflicts", conflict, StringComparison.Ordinal);
        Assert.Contains(".spec.size", conflict, StringComparison.Ordinal);
        await _kubectl.DoAsync(
            "apply --server-side --force-conflicts --field-manager=third -f -",
            Widget.Replace("size: 3", "size: 9", StringComparison.Ordinal)
        );
        Assert.Equal("9", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}"));

        // Objects that were applied on the client's side go over.
        await _kubectl.DoAsync("apply -f -", Held);
        await _kubectl.DoAsync("apply --server-side -f -", Held.Replace("size: 3", "size: 5", StringComparison.Ordinal));
        Assert.Equal("5", await _kubectl.DoAsync("get wd held -o jsonpath={.spec.size}"));
        Assert.DoesNotContain(
            "kubectl-client-side-apply",
            await _kubectl.DoAsync("get wd held -o yaml --show-managed-fields"),
            StringComparison.Ordinal
        );
    }

    [TurnFact]
    public async Task Diff_shows_what_would_change()
    {
        await _kubectl.DoAsync("apply -f -", Widget);
        Kubectl.Output same = await _kubectl.RunAsync(["diff", "-f", "-"], Widget);
        Assert.Equal((0, ""), (same.ExitCode, same.Text));
        Kubectl.Output changed = await _kubectl.RunAsync(
            ["diff", "-f", "-"],
            Widget.Replace("size: 3", "size: 4", StringComparison.Ordinal)
        );
        Assert.Equal(1, changed.ExitCode);
        Assert.Contains("+  size: 4", changed.Text, StringComparison.Ordinal);
        Assert.Equal("3", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}"));
    }

    [TurnFact]
    public async Task Bad_objects_are_refused_with_all_that_is_wrong()
    {
        string bad = await _kubectl.FailAsync("apply -f -", Widget.Replace("size: 3", "size: 99, mode: z", StringComparison.Ordinal));
        Assert.Contains("The Widget \"w1\" is invalid:", bad, StringComparison.Ordinal);
        Assert.Contains(
            "* spec.size: Invalid value: 99: spec.size in body should be less than or equal to 16",
            bad,
            StringComparison.Ordinal
        );
        Assert.Contains("* spec.mode: Unsupported value: \"z\": supported values: \"a\", \"b\"", bad, StringComparison.Ordinal);
        string unknown = Widget.Replace("size: 3", "size: 3, sise: 3", StringComparison.Ordinal);
        Assert.Contains(
            "strict decoding error: unknown field \"spec.sise\"",
            await _kubectl.FailAsync("apply -f -", unknown),
            StringComparison.Ordinal
        );
        Kubectl.Output warned = await _kubectl.RunAsync(["apply", "--validate=warn", "-f", "-"], unknown);
        Assert.Equal(0, warned.ExitCode);
        Assert.Contains("Warning: unknown field \"spec.sise\"", warned.Error, StringComparison.Ordinal);
    }

    [TurnFact]
    public async Task Labels_annotations_patches_and_replacement()
    {
        await _kubectl.DoAsync("create -f -", Widget);
        Assert.Equal("widget.example.com/w1 labeled\n", await _kubectl.DoAsync("label wd w1 a=b"));
        Assert.Contains("--overwrite is false", await _kubectl.FailAsync("label wd w1 a=c"), StringComparison.Ordinal);
        await _kubectl.DoAsync("label wd w1 a-");
        await _kubectl.DoAsync("annotate wd w1 note=x");
        Assert.Equal("x", await _kubectl.DoAsync("get wd w1 -o jsonpath={.metadata.labels.a}{.metadata.annotations.note}"));
        await _kubectl.DoAsync("patch wd w1 --type=merge -p {\"spec\":{\"size\":5}}");
        await _kubectl.DoAsync("patch wd w1 --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/size\",\"value\":6}]");
        Assert.Contains(
            "application/strategic-merge-patch+json is not supported",
            await _kubectl.FailAsync("patch wd w1 -p {\"spec\":{\"size\":7}}"),
            StringComparison.Ordinal
        );
        Assert.Equal("6", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}"));
        await _kubectl.DoAsync("replace -f -", Widget);
        Assert.Equal("3", await _kubectl.DoAsync("get wd w1 -o jsonpath={.spec.size}"));
    }

    [TurnFact]
    public async Task Wait_for_conditions_and_for_deletion()
    {
        await _kubectl.DoAsync("apply -f -", Held);
        Task<string> ready = _kubectl.DoAsync("wait --for=condition=Ready wd/held --timeout=30s");
        await _kubectl.DoAsync(
            "patch wd held --subresource=status --type=merge -p {\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}"
        );
        Assert.Equal("widget.example.com/held condition met\n", await ready);
        Assert.Contains("timed out", await _kubectl.FailAsync("wait --for=condition=Other wd/held --timeout=1s"), StringComparison.Ordinal);

        Task<string> deleted = _kubectl.DoAsync("delete wd held");
        Task<string> gone = _kubectl.DoAsync("wait --for=delete wd/held --timeout=30s");
        while (await _kubectl.DoAsync("get wd held -o jsonpath={.metadata.deletionTimestamp}") == "")
        {
            // The deletion has not arrived yet.
        }

        await _kubectl.DoAsync("patch wd held --type=merge -p {\"metadata\":{\"finalizers\":null}}");
        Assert.Equal("widget.example.com \"held\" deleted\n", await deleted);
        await gone;
    }

    [TurnFact]
    public async Task Nodes_are_tainted_cordoned_and_described()
    {
        await _kubectl.DoAsync("apply -f -", Node);
        Assert.Matches(@"node-a +Ready +worker +\d+s +v1.36.0", await _kubectl.DoAsync("get nodes"));
        await _kubectl.DoAsync("taint node node-a key=value:NoSchedule");
        await _kubectl.DoAsync("taint node node-a other=value:NoExecute");
        await _kubectl.DoAsync("taint node node-a key:NoSchedule-");
        Assert.Equal(
            "[{\"effect\":\"NoExecute\",\"key\":\"other\",\"value\":\"value\"}]",
            await _kubectl.DoAsync("get node node-a -o jsonpath={.spec.taints}")
        );
        await _kubectl.DoAsync("cordon node-a");
        Assert.Contains("Ready,SchedulingDisabled", await _kubectl.DoAsync("get node node-a"), StringComparison.Ordinal);
        await _kubectl.DoAsync("uncordon node-a");
        await _kubectl.DoAsync("label node node-a zone=a");
        string described = await _kubectl.DoAsync("describe node node-a");
        Assert.Contains("other=value:NoExecute", described, StringComparison.Ordinal);
        Assert.Matches(@"Ready +True", described);
    }

    [TurnFact]
    public async Task Describe_shows_events_of_either_api()
    {
        await _kubectl.DoAsync("apply -f -", Widget);
        string uid = await _kubectl.DoAsync("get wd w1 -o jsonpath={.metadata.uid}");
        await _kubectl.DoAsync(
            "create -f -",
            $$"""
            apiVersion: events.k8s.io/v1
            kind: Event
            metadata: {name: w1.1, namespace: default}
            eventTime: "2026-01-01T00:00:00.000000Z"
            regarding: {apiVersion: example.com/v1, kind: Widget, name: w1, namespace: default, uid: {{uid}}}
            reason: Placed
            note: placed on node-a
            type: Normal
            action: Place
            reportingController: example.com/controller
            reportingInstance: controller-0
            """
        );
        Assert.Matches(@"Normal +Placed +\S+ +example.com/controller +placed on node-a", await _kubectl.DoAsync("describe wd w1"));
        Assert.Matches(@"Normal +Placed +Widget/w1 +placed on node-a", await _kubectl.DoAsync("events"));
        Assert.Contains("widget/w1", await _kubectl.DoAsync("get events"), StringComparison.Ordinal);
        Assert.Contains("regarding", await _kubectl.DoAsync("get events.events.k8s.io -o yaml"), StringComparison.Ordinal);
    }

    [TurnFact]
    public async Task What_typed_clients_send_in_protobuf_is_understood()
    {
        await _kubectl.DoAsync("create namespace team");
        await _kubectl.DoAsync("create configmap c -n team --from-literal=a=b");
        await _kubectl.DoAsync("create secret generic s -n team --from-literal=a=b");
        await _kubectl.DoAsync("create serviceaccount bot -n team");
        await _kubectl.DoAsync("create role r -n team --verb=get --resource=pods");
        await _kubectl.DoAsync("create rolebinding rb -n team --role=r --serviceaccount=team:bot");
        Assert.Equal("{\"a\":\"b\"}", await _kubectl.DoAsync("get cm c -n team -o jsonpath={.data}"));
        Assert.Equal("Yg==", await _kubectl.DoAsync("get secret s -n team -o jsonpath={.data.a}"));
        Assert.Equal(
            "ServiceAccount-bot-team",
            await _kubectl.DoAsync(
                "get rolebinding rb -n team -o jsonpath={.subjects[0].kind}{\"-\"}{.subjects[0].name}{\"-\"}{.subjects[0].namespace}"
            )
        );
        Assert.Equal("yes\n", await _kubectl.DoAsync("auth can-i create wd"));
        await _kubectl.DoAsync("delete namespace team");
        Assert.Contains("not found", await _kubectl.FailAsync("get namespace team"), StringComparison.Ordinal);
    }

    [TurnFact]
    public async Task Resources_are_discovered()
    {
        Assert.Matches(@"widgets +wd +example.com/v1 +true +Widget", await _kubectl.DoAsync("api-resources"));
        Assert.Contains("example.com/v1\n", await _kubectl.DoAsync("api-versions"), StringComparison.Ordinal);
        Assert.Contains("Server Version: v1.36", await _kubectl.DoAsync("version"), StringComparison.Ordinal);
        await _kubectl.DoAsync("delete crd widgets.example.com");
        Assert.Contains("(NotFound)", await _kubectl.FailAsync("get widgets"), StringComparison.Ordinal);
    }
}
