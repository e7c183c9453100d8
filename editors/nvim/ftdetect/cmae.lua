vim.api.nvim_create_autocmd({ 'BufRead', 'BufNewFile' }, { pattern = '*.cmae', command = 'setfiletype cmae' })
