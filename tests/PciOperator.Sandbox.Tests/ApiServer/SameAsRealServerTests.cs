using PciOperator.Testing;

namespace PciOperator.Sandbox.Tests.ApiServer;

/// <summary>The sandbox answers as a real API server does: word for word, code for code, to a hundred and more requests.</summary>
[Collection(nameof(RealServerCollection))]
public sealed class SameAsRealServerTests(RealServerFixture real)
{
    [Fact]
    public Task Objects() => CompareAsync("objects.txt");

    [Fact]
    public Task Apply() => CompareAsync("apply.txt");

    [Fact]
    public Task Lists_and_watches() => CompareAsync("lists-and-watches.txt");

    private async Task CompareAsync(string scenario)
    {
        await using SandboxServer sandbox = await SandboxServer.StartAsync();
        using HttpClient client = RawClient.Of(real.Server.KubeconfigText);
        await DefineWidgetsAsync(client);

        var steps = Scenario.Read(scenario);
        IReadOnlyList<(Scenario.Step Step, string Answer)> expected = await steps.RunAsync(client);
        IReadOnlyList<(Scenario.Step Step, string Answer)> actual = await steps.RunAsync(sandbox.Http);
        Assert.NotEmpty(expected);
        Assert.Multiple([
            .. expected
                .Zip(actual)
                .Select(pair =>
                    (Action)(
                        () =>
                            Assert.True(
                                pair.First.Answer == pair.Second.Answer,
                                $"{pair.First.Step}\n--- real\n{pair.First.Answer}\n--- sandbox\n{pair.Second.Answer}"
                            )
                    )
                ),
        ]);
    }

    // Each scenario begins with the definition new, and so with no widgets.
    private static async Task DefineWidgetsAsync(HttpClient client)
    {
        const string definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await client.DeleteAsync($"{definitions}/widgets.example.com", patience.Token);
        while ((await client.GetAsync($"{definitions}/widgets.example.com", patience.Token)).IsSuccessStatusCode)
            await Task.Yield();
        var body = new StringContent(
            SandboxServer.Widgets,
            System.Text.Encoding.UTF8,
            new System.Net.Http.Headers.MediaTypeHeaderValue("application/yaml")
        );
        (await client.PostAsync(definitions, body, patience.Token)).EnsureSuccessStatusCode();
        while (!(await client.GetAsync("/apis/example.com/v1/widgets", patience.Token)).IsSuccessStatusCode)
            await Task.Yield();
    }
}

/// <summary>One real server for the tests here that need one.</summary>
[CollectionDefinition(nameof(RealServerCollection))]
public sealed class RealServerCollection : ICollectionFixture<RealServerFixture>;
