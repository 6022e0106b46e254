using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>One server with the widgets CRD.</summary>
internal sealed class SandboxServer : IAsyncDisposable
{
    public static readonly string Widgets = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "ApiServer", "widgets.yaml"));

    private readonly SandboxApiServer _server;

    private SandboxServer(SandboxApiServer server)
    {
        _server = server;
        Http = RawClient.Of(server.KubeconfigText);
    }

    public HttpClient Http { get; }

    public SandboxApiServer Api => _server;

    public string KubeconfigText => _server.KubeconfigText;

    public static async Task<SandboxServer> StartAsync(SandboxApiServerOptions? options = null) =>
        new(await SandboxApiServer.StartAsync((options ?? new SandboxApiServerOptions()) with { Crds = [Widgets] }));

    /// <summary>Sends a request and reads the whole answer.</summary>
    public async Task<Answer> SendAsync(
        string method,
        string path,
        string? body = null,
        string contentType = "application/json",
        string? accept = null
    )
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, new MediaTypeHeaderValue(contentType));
        if (accept is not null)
            request.Headers.TryAddWithoutValidation("Accept", accept);
        using HttpResponseMessage response = await Http.SendAsync(request);
        List<string> warnings = response.Headers.TryGetValues("Warning", out IEnumerable<string>? values) ? values.ToList() : [];
        return new Answer((int)response.StatusCode, await response.Content.ReadAsStringAsync(), warnings);
    }

    public Task<Answer> WidgetAsync(string name, string rest = "", string ns = "default") =>
        SendAsync(
            "POST",
            $"/apis/example.com/v1/namespaces/{ns}/widgets",
            $$$"""{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"{{{name}}}"},"spec":{"size":1{{{rest}}} } }"""
        );

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _server.DisposeAsync();
    }
}

/// <summary>What a server answered.</summary>
internal sealed record Answer(int Code, string Text, IReadOnlyList<string> Warnings)
{
    public JsonObject Json => (JsonObject)JsonNode.Parse(Text)!;

    /// <summary>The events of a watch.</summary>
    public IReadOnlyList<JsonObject> Events =>
        [.. Text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => (JsonObject)JsonNode.Parse(l)!)];

    public string Version => (string)Json["metadata"]!["resourceVersion"]!;
}
