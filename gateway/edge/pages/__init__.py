"""The pages: what people see in a browser, written on the server. They work without JavaScript, and better with it.

`site` answers requests with pages and refuses what did not come from one; `visits` knows who is looking; `billing*`
are the customers' pages, `ops*` the operators'. What is shown is made by plain functions (`*_view`, `chart`,
`wording`) from the ledger's records; the pages do nothing to money that the APIs do not do by the same functions.
"""
