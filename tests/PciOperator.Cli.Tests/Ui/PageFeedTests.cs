using System.IO.Pipelines;
using PciOperator.Cli.Ui;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>What a page is told, event by event.</summary>
public sealed class PageFeedTests
{
    private readonly PageFeed _feed = new(TimeProvider.System);

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_page_is_told_of_everything_and_then_of_what_changes()
    {
        Set("a", "1");
        await using var page = new Reader(_feed);
        Assert.Equal(["begin {}", """text {"key":"a","value":"1"}""", "ready {}"], await page.NextAsync(3));

        Set("a", "1");
        Set("b", "2");
        Assert.Equal(["""text {"key":"b","value":"2"}"""], await page.NextAsync(1));
        _feed.Remove("text", "a");
        Assert.Equal(["""gone {"key":"a","value":"text"}"""], await page.NextAsync(1));
    }

    [Fact]
    public async Task A_page_that_connects_again_is_told_of_what_there_is_now()
    {
        Set("a", "1");
        Set("b", "2");
        await using (var page = new Reader(_feed))
            await page.NextAsync(4);
        _feed.Remove("text", "a");
        await using var again = new Reader(_feed);
        Assert.Equal(["begin {}", """text {"key":"b","value":"2"}""", "ready {}"], await again.NextAsync(3));
    }

    [Fact]
    public async Task A_page_that_does_not_read_is_told_the_last_of_many_changes_alone()
    {
        await using var page = new Reader(_feed);
        Assert.Equal(["begin {}", "ready {}"], await page.NextAsync(2));
        for (int i = 0; i < 1000; i++)
            Set("a", $"{i}");
        string[] told = await page.NextAsync(1);
        while (!told[0].Contains("999", StringComparison.Ordinal))
            told = await page.NextAsync(1);
        Assert.True(page.Count < 20, $"{page.Count} events for 1000 changes");
    }

    [Fact]
    public async Task Text_has_no_line_breaks_and_nothing_that_is_markup()
    {
        Set("<b>", "one\n\ndata: two\r<script>&");
        await using var page = new Reader(_feed);
        string told = (await page.NextAsync(2))[1];
        Assert.DoesNotContain('<', told);
        Assert.DoesNotContain('&', told);
        Assert.Contains("\\n\\ndata: two\\r", told, StringComparison.Ordinal);
    }

    private void Set(string key, string value) => _feed.Set("text", key, value, PageJsonContext.Default.String);

    /// <summary>A page, as far as events go.</summary>
    private sealed class Reader : IAsyncDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly StreamReader _lines;
        private readonly Task _sending;

        public Reader(PageFeed feed)
        {
            var pipe = new Pipe();
            _lines = new StreamReader(pipe.Reader.AsStream());
            _sending = feed.SendAsync(pipe.Writer.AsStream(), _stop.Token);
        }

        public int Count { get; private set; }

        public async Task<string[]> NextAsync(int count)
        {
            var events = new List<string>();
            while (events.Count < count)
            {
                string kind = (await _lines.ReadLineAsync(Ct))!["event: ".Length..];
                string data = (await _lines.ReadLineAsync(Ct))!["data: ".Length..];
                Assert.Equal("", await _lines.ReadLineAsync(Ct));
                events.Add($"{kind} {data}");
                Count++;
            }

            return [.. events];
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _sending);
            _lines.Dispose();
            _stop.Dispose();
        }
    }
}
