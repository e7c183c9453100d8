-- Colours by tree-sitter, where its parser is built, and the language server, where `cmaec` is: for Neovim 0.7 and later.
-- `vim.g.cmae_program` names another `cmaec`; `vim.g.cmae_lsp = false` leaves the server out.
local buffer = vim.api.nvim_get_current_buf()

vim.bo.commentstring = '// %s'
vim.bo.comments = ':///,://'
vim.bo.expandtab = true
vim.bo.shiftwidth = 2
vim.bo.softtabstop = 2

if #vim.api.nvim_get_runtime_file('parser/cmae.so', false) > 0 then
  if vim.treesitter.start then
    vim.treesitter.start(buffer, 'cmae')
  else
    vim.treesitter.highlighter.new(vim.treesitter.get_parser(buffer, 'cmae'))
  end
end

local program = vim.g.cmae_program or 'cmaec'
if vim.g.cmae_lsp ~= false and vim.fn.executable(program) == 1 then
  local config = { name = 'cmaec', cmd = { program, 'lsp' }, root_dir = vim.fn.getcwd() }
  if vim.lsp.start then
    vim.lsp.start(config, { bufnr = buffer })
  else
    -- One server for all buffers.
    vim.g.cmae_client = vim.g.cmae_client or vim.lsp.start_client(config)
    vim.lsp.buf_attach_client(buffer, vim.g.cmae_client)
    -- Later releases set it themselves.
    vim.bo.omnifunc = 'v:lua.vim.lsp.omnifunc'
  end
end
