using System.Net;
using System.Text;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    [Fact]
    public async Task Label_selectors_select()
    {
        await CreateAsync("a", labels: [("app", "x"), ("tier", "front")]);
        await CreateAsync("b", labels: [("app", "x"), ("tier", "back")]);
        await CreateAsync("c", labels: [("app", "y")]);
        await CreateAsync("d");
        Assert.Equal(["a", "b", "c", "d"], await NamesAsync());
        Assert.Equal(["a", "b"], await NamesAsync("app=x"));
        Assert.Equal(["a", "b"], await NamesAsync("app==x"));
        Assert.Equal(["c", "d"], await NamesAsync("app!=x"));
        Assert.Equal(["a"], await NamesAsync("app=x,tier=front"));
        Assert.Equal(["a", "b", "c"], await NamesAsync("app in (x, y)"));
        Assert.Equal(["d"], await NamesAsync("app notin (x,y)"));
        Assert.Equal(["a", "b"], await NamesAsync("tier"));
        Assert.Equal(["c", "d"], await NamesAsync("!tier"));
        ApiException bad = await Assert.ThrowsAsync<ApiException>(() => NamesAsync("app in x"));
        Assert.Equal(HttpStatusCode.BadRequest, bad.StatusCode);
    }

    [Fact]
    public async Task Field_selectors_select_by_name_and_by_the_fields_that_the_crd_names()
    {
        await CreateAsync("a", color: "red");
        await CreateAsync("b", color: "green");
        await CreateAsync("c", color: "red");
        Assert.Equal(["b"], await NamesAsync(fields: "metadata.name=b"));
        Assert.Equal(["a", "c"], await NamesAsync(fields: "spec.color=red"));
        Assert.Equal(["b"], await NamesAsync(fields: "spec.color!=red"));
        Assert.Equal(["c"], await NamesAsync(fields: "spec.color=red,metadata.name!=a"));
        Assert.Equal(["a", "b", "c"], await NamesAsync(fields: $"metadata.namespace={Ns}"));
        ApiException bad = await Assert.ThrowsAsync<ApiException>(() => NamesAsync(fields: "spec.size=1"));
        Assert.Equal(HttpStatusCode.BadRequest, bad.StatusCode);
    }

    [Fact]
    public async Task Lists_come_in_pages_of_one_moment()
    {
        for (int i = 0; i < 7; i++)
            await CreateAsync($"w{i}");
        EntityList<Widget> first = await Client.ListPageAsync<Widget>(Ns, new ListOptions { Limit = 3 }, Ct);
        Assert.Equal(["w0", "w1", "w2"], first.Items.Select(w => w.Metadata.Name));
        Assert.NotNull(first.Metadata.ContinueProperty);
        Assert.Equal(4, first.Metadata.RemainingItemCount);

        // What changes between the pages is not in them.
        await CreateAsync("w5a");
        await Client.DeleteAsync<Widget>("w6", Ns, ct: Ct);
        EntityList<Widget> second = await Client.ListPageAsync<Widget>(
            Ns,
            new ListOptions { Limit = 3, Continue = first.Metadata.ContinueProperty },
            Ct
        );
        Assert.Equal(["w3", "w4", "w5"], second.Items.Select(w => w.Metadata.Name));
        Assert.Equal(first.Metadata.ResourceVersion, second.Metadata.ResourceVersion);
        EntityList<Widget> third = await Client.ListPageAsync<Widget>(
            Ns,
            new ListOptions { Limit = 3, Continue = second.Metadata.ContinueProperty },
            Ct
        );
        Assert.Equal(["w6"], third.Items.Select(w => w.Metadata.Name));
        Assert.Null(third.Metadata.ContinueProperty);

        EntityList<Widget> all = await Client.ListAsync<Widget>(Ns, new ListOptions { Limit = 2 }, Ct);
        Assert.Equal(["w0", "w1", "w2", "w3", "w4", "w5", "w5a"], all.Items.Select(w => w.Metadata.Name));
        Assert.Null(all.Metadata.ContinueProperty);
    }

    [Fact]
    public async Task A_list_whose_next_page_is_forgotten_is_read_again_in_one_piece()
    {
        for (int i = 0; i < 5; i++)
            await CreateAsync($"w{i}");
        var forgetful = new ExpiredPages();
        using EntityClient client = Server.Client(
            WidgetJsonContext.Default,
            wrap: inner =>
            {
                forgetful.InnerHandler = inner;
                return forgetful;
            }
        );
        EntityList<Widget> list = await client.ListAsync<Widget>(Ns, new ListOptions { Limit = 2 }, Ct);
        Assert.Equal(["w0", "w1", "w2", "w3", "w4"], list.Items.Select(w => w.Metadata.Name));
        Assert.Equal(1, forgetful.Expired);
    }

    [Fact]
    public async Task A_page_token_that_is_none_is_refused()
    {
        ApiException bad = await Assert.ThrowsAsync<ApiException>(() =>
            Client.ListPageAsync<Widget>(Ns, new ListOptions { Limit = 1, Continue = "nonsense" }, Ct)
        );
        Assert.Equal(HttpStatusCode.BadRequest, bad.StatusCode);
    }

    [Fact]
    public async Task Many_large_objects_are_listed_whole()
    {
        var notes = Enumerable.Range(0, 40).Select(i => new string((char)('a' + (i % 26)), 500)).ToList();
        for (int i = 0; i < 30; i++)
        {
            await Client.CreateAsync(
                New($"big{i:00}") with
                {
                    Spec = new WidgetSpec { Notes = notes, Size = i },
                },
                Ct
            );
        }

        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        Assert.Equal(30, list.Items.Count);
        Assert.All(list.Items, (w, i) => Assert.Equal(i, w.Spec.Size));
        Assert.All(list.Items, w => Assert.Equal(notes, w.Spec.Notes));
    }

    /// <summary>Answers 410 to the second page, as a server does that compacted meanwhile.</summary>
    private sealed class ExpiredPages : DelegatingHandler
    {
        public int Expired { get; private set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (!request.RequestUri!.Query.Contains("continue=", StringComparison.Ordinal))
                return base.SendAsync(request, cancellationToken);
            Expired++;
            return Task.FromResult(
                new HttpResponseMessage(HttpStatusCode.Gone)
                {
                    Content = new StringContent(
                        """{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"The provided continue parameter is too old."}""",
                        Encoding.UTF8,
                        "application/json"
                    ),
                }
            );
        }
    }
}
