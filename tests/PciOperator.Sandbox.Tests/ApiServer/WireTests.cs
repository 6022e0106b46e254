using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Testing;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>What goes over the wire where neither kubectl nor the client's contract tests look.</summary>
public sealed class WireTests : IAsyncLifetime
{
    private const string Widgets = "/apis/example.com/v1/namespaces/default/widgets";
    private const string Table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

    private readonly FakeTimeProvider _time = new();
    private SandboxServer _server = null!;

    public async ValueTask InitializeAsync() =>
        _server = await SandboxServer.StartAsync(
            new SandboxApiServerOptions
            {
                HistoryLength = 4,
                Seed = 7,
                TimeProvider = _time,
            }
        );

    public async ValueTask DisposeAsync() => await _server.DisposeAsync();

    [Fact]
    public async Task Without_its_token_nobody_gets_in()
    {
        _server.Http.DefaultRequestHeaders.Authorization = new("Bearer", "wrong");
        Answer answer = await _server.SendAsync("GET", "/api/v1/nodes");
        Assert.Equal((401, "Unauthorized"), (answer.Code, (string)answer.Json["reason"]!));
        Assert.Equal("ok", (await _server.SendAsync("GET", "/readyz")).Text);
        Assert.Equal(200, (await _server.SendAsync("GET", "/version")).Code);
    }

    [Fact]
    public async Task A_watch_from_before_the_history_ends_with_an_error_event()
    {
        Answer old = await _server.WidgetAsync("a");
        for (int i = 0; i < 5; i++)
            await _server.WidgetAsync($"b{i}");
        Answer watch = await _server.SendAsync("GET", $"{Widgets}?watch=1&resourceVersion={old.Version}");
        JsonObject error = Assert.Single(watch.Events);
        Assert.Equal(
            ("ERROR", 410, "Expired"),
            ((string)error["type"]!, (int)error["object"]!["code"]!, (string)error["object"]!["reason"]!)
        );
    }

    [Fact]
    public async Task A_page_from_before_the_history_says_how_to_go_on()
    {
        for (int i = 0; i < 3; i++)
            await _server.WidgetAsync($"w{i}");
        Answer first = await _server.SendAsync("GET", $"{Widgets}?limit=1");
        await _server.WidgetAsync("w3");
        _server.Api.CompactHistory();
        Answer expired = await _server.SendAsync("GET", $"{Widgets}?limit=1&continue={first.Json["metadata"]!["continue"]}");
        Assert.Equal((410, "Expired"), (expired.Code, (string)expired.Json["reason"]!));
        Answer rest = await _server.SendAsync("GET", $"{Widgets}?continue={expired.Json["metadata"]!["continue"]}");
        Assert.Equal(["w1", "w2", "w3"], rest.Json["items"]!.AsArray().Select(w => (string)w!["metadata"]!["name"]!));
    }

    [Fact]
    public async Task Bookmarks_come_by_the_clock_and_when_the_watch_ends()
    {
        Answer made = await _server.WidgetAsync("a");
        using HttpResponseMessage response = await _server.Http.GetAsync(
            $"{Widgets}?watch=1&resourceVersion={made.Version}&allowWatchBookmarks=true&timeoutSeconds=90",
            HttpCompletionOption.ResponseHeadersRead
        );
        using var events = new StreamReader(await response.Content.ReadAsStreamAsync());
        _time.Advance(TimeSpan.FromMinutes(1));
        JsonNode bookmark = JsonNode.Parse((await events.ReadLineAsync())!)!;
        Assert.Equal(("BOOKMARK", made.Version), ((string)bookmark["type"]!, (string)bookmark["object"]!["metadata"]!["resourceVersion"]!));
        Answer next = await _server.SendAsync("POST", "/api/v1/namespaces/default/configmaps", """{"metadata":{"name":"c"}}""");
        _time.Advance(TimeSpan.FromSeconds(30));
        bookmark = JsonNode.Parse((await events.ReadLineAsync())!)!;
        Assert.Equal(("BOOKMARK", next.Version), ((string)bookmark["type"]!, (string)bookmark["object"]!["metadata"]!["resourceVersion"]!));
        Assert.Null(await events.ReadLineAsync());
    }

    [Fact]
    public async Task A_watch_can_begin_with_what_is_there()
    {
        await _server.WidgetAsync("a");
        using HttpResponseMessage response = await _server.Http.GetAsync(
            $"{Widgets}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            HttpCompletionOption.ResponseHeadersRead
        );
        using var events = new StreamReader(await response.Content.ReadAsStreamAsync());
        Assert.Equal("ADDED", (string)JsonNode.Parse((await events.ReadLineAsync())!)!["type"]!);
        JsonNode end = JsonNode.Parse((await events.ReadLineAsync())!)!;
        Assert.Equal("BOOKMARK", (string)end["type"]!);
        Assert.Equal("true", (string)end["object"]!["metadata"]!["annotations"]!["k8s.io/initial-events-end"]!);
    }

    [Fact]
    public async Task An_object_that_leaves_the_selector_is_deleted_for_its_watch()
    {
        Answer list = await _server.SendAsync("GET", Widgets);
        using HttpResponseMessage response = await _server.Http.GetAsync(
            $"{Widgets}?watch=1&labelSelector=on%3Dyes&resourceVersion={list.Version}",
            HttpCompletionOption.ResponseHeadersRead
        );
        using var events = new StreamReader(await response.Content.ReadAsStreamAsync());
        await _server.WidgetAsync("a");
        async Task LabelAsync(string value) =>
            Assert.Equal(
                200,
                (
                    await _server.SendAsync(
                        "PATCH",
                        $"{Widgets}/a",
                        $$$$"""{"metadata":{"labels":{"on":"{{{{value}}}}"}}}""",
                        "application/merge-patch+json"
                    )
                ).Code
            );
        await LabelAsync("yes");
        await LabelAsync("no");
        await LabelAsync("yes");
        Assert.Equal(
            ["ADDED", "DELETED", "ADDED"],
            new[] { await events.ReadLineAsync(), await events.ReadLineAsync(), await events.ReadLineAsync() }.Select(l =>
                (string)JsonNode.Parse(l!)!["type"]!
            )
        );
    }

    [Fact]
    public async Task A_table_watch_sends_its_columns_once()
    {
        await _server.WidgetAsync("a");
        await _server.WidgetAsync("b");
        using HttpResponseMessage response = await _server.Http.SendAsync(
            new HttpRequestMessage(HttpMethod.Get, $"{Widgets}?watch=1") { Headers = { { "Accept", Table } } },
            HttpCompletionOption.ResponseHeadersRead
        );
        using var events = new StreamReader(await response.Content.ReadAsStreamAsync());
        JsonNode first = JsonNode.Parse((await events.ReadLineAsync())!)!["object"]!;
        JsonNode second = JsonNode.Parse((await events.ReadLineAsync())!)!["object"]!;
        Assert.Equal("Table", (string)first["kind"]!);
        Assert.NotEmpty(first["columnDefinitions"]!.AsArray());
        Assert.Empty(second["columnDefinitions"]!.AsArray());
        Assert.Equal("PartialObjectMetadata", (string)second["rows"]![0]!["object"]!["kind"]!);
    }

    [Fact]
    public async Task Unknown_fields_are_told_in_warning_headers()
    {
        Answer answer = await _server.WidgetAsync("a", ",\"sise\":1");
        Assert.Equal(201, answer.Code);
        Assert.Equal(["299 - \"unknown field \\\"spec.sise\\\"\""], answer.Warnings);
    }

    [Fact]
    public async Task Yaml_comes_and_goes()
    {
        Answer made = await _server.SendAsync(
            "POST",
            Widgets,
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: y}\nspec: {size: 2, name: 'on'}\n",
            "application/yaml",
            "application/yaml"
        );
        Assert.Equal(201, made.Code);
        Assert.Contains("\nkind: Widget\n", "\n" + made.Text, StringComparison.Ordinal);
        Assert.Contains("name: \"on\"", made.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Rules_of_the_validators_are_enforced_with_the_values_they_name()
    {
        var options = new SandboxApiServerOptions
        {
            Validators = new Dictionary<GroupKind, ObjectValidator>
            {
                [new("example.com", "Widget")] = (now, old) =>
                    old is not null && now["spec"]!["size"]!.GetValue<int>() < old["spec"]!["size"]!.GetValue<int>()
                        ? [new FieldError("spec.size", "size can only grow")]
                        : [],
            },
        };
        await using SandboxServer server = await SandboxServer.StartAsync(options);
        await server.WidgetAsync("a", ",\"name\":\"ab\"");
        Answer refused = await server.SendAsync("PATCH", $"{Widgets}/a", """{"spec":{"size":0}}""", "application/merge-patch+json");
        Assert.Equal(422, refused.Code);
        Assert.Contains("size can only grow", (string)refused.Json["message"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_definition_stays_until_the_finalizers_of_its_objects_let_it_go()
    {
        await _server.SendAsync(
            "POST",
            Widgets,
            """{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","finalizers":["example.com/hold"]},"spec":{"size":1}}"""
        );
        const string definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
        await _server.SendAsync("DELETE", definition);
        Assert.Equal(200, (await _server.SendAsync("GET", definition)).Code);
        Assert.Equal(403, (await _server.WidgetAsync("b")).Code);
        await _server.SendAsync("PATCH", $"{Widgets}/a", """{"metadata":{"finalizers":null}}""", "application/merge-patch+json");
        Assert.Equal(404, (await _server.SendAsync("GET", definition)).Code);
        Assert.Equal(404, (await _server.SendAsync("GET", Widgets)).Code);
    }

    [Fact]
    public async Task A_namespace_stays_until_its_content_is_gone()
    {
        await _server.SendAsync("POST", "/api/v1/namespaces", """{"metadata":{"name":"team"}}""");
        await _server.WidgetAsync("a", ns: "team");
        await _server.SendAsync(
            "POST",
            "/apis/example.com/v1/namespaces/team/widgets",
            """{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"held","finalizers":["example.com/hold"]},"spec":{"size":1}}"""
        );
        Answer deleted = await _server.SendAsync("DELETE", "/api/v1/namespaces/team");
        Assert.Equal("Terminating", (string)deleted.Json["status"]!["phase"]!);
        Assert.Equal(404, (await _server.SendAsync("GET", "/apis/example.com/v1/namespaces/team/widgets/a")).Code);
        Answer late = await _server.WidgetAsync("late", ns: "team");
        Assert.Equal((403, "NamespaceTerminating"), (late.Code, (string)late.Json["details"]!["causes"]![0]!["reason"]!));
        await _server.SendAsync(
            "PATCH",
            "/apis/example.com/v1/namespaces/team/widgets/held",
            """{"metadata":{"finalizers":null}}""",
            "application/merge-patch+json"
        );
        Assert.Equal(404, (await _server.SendAsync("GET", "/api/v1/namespaces/team")).Code);
    }

    [Fact]
    public async Task What_is_owned_goes_with_its_last_owner()
    {
        (string one, string two) = (await OwnerAsync("one"), await OwnerAsync("two"));
        await OwnedAsync("by-one", one);
        await OwnedAsync("by-both", one, two);
        await _server.SendAsync("DELETE", "/api/v1/nodes/one");
        Assert.Equal(404, (await _server.SendAsync("GET", $"{Widgets}/by-one")).Code);
        Answer left = await _server.SendAsync("GET", $"{Widgets}/by-both");
        Assert.Equal("two", (string)Assert.Single(left.Json["metadata"]!["ownerReferences"]!.AsArray())!["name"]!);
        await _server.SendAsync("DELETE", "/api/v1/nodes/two?propagationPolicy=Orphan");
        Assert.Null((await _server.SendAsync("GET", $"{Widgets}/by-both")).Json["metadata"]!["ownerReferences"]);

        async Task<string> OwnerAsync(string name) =>
            (await _server.SendAsync("POST", "/api/v1/nodes", $$$"""{"metadata":{"name":"{{{name}}}"}}""")).Json["metadata"]![
                "uid"
            ]!.ToString()
            + " "
            + name;
        Task OwnedAsync(string name, params string[] owners) =>
            _server.SendAsync(
                "POST",
                Widgets,
                new JsonObject
                {
                    ["apiVersion"] = "example.com/v1",
                    ["kind"] = "Widget",
                    ["metadata"] = new JsonObject
                    {
                        ["name"] = name,
                        ["ownerReferences"] = new JsonArray([
                            .. owners
                                .Select(o => o.Split(' '))
                                .Select(o => new JsonObject
                                {
                                    ["apiVersion"] = "v1",
                                    ["kind"] = "Node",
                                    ["name"] = o[1],
                                    ["uid"] = o[0],
                                }),
                        ]),
                    },
                    ["spec"] = new JsonObject { ["size"] = 1 },
                }.ToJsonString()
            );
    }

    [Fact]
    public async Task Events_are_one_thing_in_two_apis()
    {
        await _server.SendAsync(
            "POST",
            "/apis/events.k8s.io/v1/namespaces/default/events",
            """
            {"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"e"},"eventTime":"2026-01-01T00:00:00.000000Z","regarding":{"kind":"Widget","name":"a","namespace":"default"},"reason":"R","note":"n","type":"Normal","action":"A","reportingController":"c","reportingInstance":"i","series":{"count":2,"lastObservedTime":"2026-01-01T00:01:00.000000Z"}}
            """
        );
        Answer core = await _server.SendAsync(
            "GET",
            "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da,involvedObject.kind%3DWidget,reason%3DR"
        );
        JsonNode e = Assert.Single(core.Json["items"]!.AsArray())!;
        Assert.Equal(("v1", "n", "c"), ((string)e["apiVersion"]!, (string)e["message"]!, (string)e["reportingComponent"]!));
        Answer back = await _server.SendAsync("GET", "/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Da");
        Assert.Equal("n", (string)back.Json["items"]![0]!["note"]!);
    }

    [Fact]
    public async Task Discovery_is_also_had_in_one_piece()
    {
        JsonObject groups = (
            await _server.SendAsync("GET", "/apis", accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        ).Json;
        Assert.Equal("APIGroupDiscoveryList", (string)groups["kind"]!);
        JsonNode widgets = groups["items"]!.AsArray().Single(g => (string)g!["metadata"]!["name"]! == "example.com")!["versions"]![0]![
            "resources"
        ]![0]!;
        Assert.Equal(
            ("widgets", "Namespaced", "status"),
            ((string)widgets["resource"]!, (string)widgets["scope"]!, (string)widgets["subresources"]![0]!["subresource"]!)
        );
    }

    [Fact]
    public async Task Many_watches_by_name_hear_only_of_their_own()
    {
        const int watches = 300;
        Answer list = await _server.SendAsync("GET", Widgets);
        var responses = new List<HttpResponseMessage>();
        for (int i = 0; i < watches; i++)
        {
            responses.Add(
                await _server.Http.GetAsync(
                    $"{Widgets}?watch=1&resourceVersion={list.Version}&fieldSelector=metadata.name%3Dw{i}",
                    HttpCompletionOption.ResponseHeadersRead
                )
            );
        }

        for (int i = 0; i < watches; i++)
            await _server.WidgetAsync($"w{i}");
        for (int i = 0; i < watches; i++)
        {
            using var events = new StreamReader(await responses[i].Content.ReadAsStreamAsync());
            Assert.Equal($"w{i}", (string)JsonNode.Parse((await events.ReadLineAsync())!)!["object"]!["metadata"]!["name"]!);
        }

        responses.ForEach(r => r.Dispose());
    }
}
